"""Mutation test: how many small faults, put into the code one at a time, the tests notice.

    pip install -e '.[mutants]'
    python -m benchmarks.mutants --draw 150 --seed 0

cosmic-ray lists every mutant of the modules below: a number changed by one, a comparison or an
operator replaced, a condition negated, a decorator or a loop removed. A draw by `--seed` chooses
some of them. Each is put into a copy of the working tree, and the tests that mirror its module run
there; a mutant survives if they pass. Results are kept in a session file: the same command
continues an interrupted run, and cosmic-ray's own `cr-report FILE` reads it.

Left out: mutants of `|`, nearly all of which are in annotations.
"""

import argparse
import collections
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkItem, WorkResult

from benchmarks._common import make_parser, write_json

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300.0
PYTEST = (sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider")
# Tests of each module, which run for its mutants.
TESTS = {
    "avq/train/step.py": "tests/train/test_step.py",
    "avq/train/gradients.py": "tests/train/test_step.py",
    "avq/train/state.py": "tests/train/test_step.py",
    "avq/train/interval.py": "tests/train/test_interval.py",
    "avq/train/guards.py": "tests/train/test_guards.py",
    "avq/train/optim.py": "tests/train/test_optim.py",
    "avq/train/profile.py": "tests/train/test_profile.py",
    "avq/train/stop.py": "tests/train/test_stop.py",
    "avq/train/writers.py": "tests/train/test_writers.py",
    "avq/train/loop.py": "tests/train/test_stranger.py tests/train/test_loop.py",
    "avq/losses/__init__.py": "tests/losses",
    "avq/losses/adversarial.py": "tests/losses",
    "avq/losses/reconstruction.py": "tests/losses",
    "avq/models/quantizers/base.py": "tests/models/quantizers tests/models/test_build.py",
    "avq/models/quantizers/ema.py": "tests/models/quantizers tests/models/test_build.py",
    "avq/models/quantizers/gradient.py": "tests/models/quantizers tests/models/test_build.py",
    "avq/models/quantizers/search.py": "tests/models/quantizers tests/models/test_build.py",
    "avq/evaluate/metrics/base.py": "tests/evaluate",
    "avq/evaluate/metrics/bits.py": "tests/evaluate",
    "avq/evaluate/metrics/code_use.py": "tests/evaluate",
    "avq/evaluate/metrics/mae.py": "tests/evaluate",
    "avq/evaluate/metrics/psnr.py": "tests/evaluate",
    "avq/evaluate/metrics/ssim.py": "tests/evaluate",
    "avq/evaluate/metrics/symmetry.py": "tests/evaluate",
    "avq/evaluate/results.py": "tests/evaluate",
    "avq/evaluate/sources.py": "tests/evaluate",
    "avq/data/pipeline.py": "tests/data/test_pipeline.py",
    "avq/config.py": "tests/test_config.py tests/test_systems.py -k 'not trains_two_steps'",
    "avq/settings.py": "tests/test_settings.py",
}
# Unions in annotations, for the most part.
LEFT_OUT = "BitOr"


def main() -> None:
    """Draws mutants, tests those without a result, prints the summary."""
    arguments = _parse()
    session, json_file = arguments.session.resolve(), arguments.json and arguments.json.resolve()
    with tempfile.TemporaryDirectory() as folder, use_db(session, WorkDB.Mode.create) as db:
        os.chdir(_copy_of_the_tree(Path(folder)))
        if not db.num_work_items:
            db.add_work_items(_draw(arguments.draw, arguments.seed))
        waiting = sorted(db.pending_work_items, key=_place)
        for number, tests in enumerate(sorted({_tests_of(item) for item in waiting}), start=1):
            _require_green(tests)
            print(f"tests without a mutant, {number}: {tests} pass", flush=True)
        for number, item in enumerate(waiting, start=1):
            began = time.monotonic()
            result = mutate_and_test(item.mutations, _command(_tests_of(item)), TIMEOUT_S)
            db.set_result(item.job_id, result)
            outcome = "killed" if result.is_killed else "SURVIVED"
            seconds = time.monotonic() - began
            print(f"{number}/{len(waiting)} {_name(item)}: {outcome}, {seconds:.0f} s", flush=True)
        summary = _summary(list(db.completed_work_items))
    write_json(json_file, summary)


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--draw", type=int, default=150, metavar="N", help="mutants to test")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument(
        "--session", type=Path, default=Path("mutants.sqlite"), metavar="FILE", help="results"
    )
    return parser.parse_args()


def _copy_of_the_tree(folder: Path) -> Path:
    """A copy of the working tree, in which files may be changed."""
    leave = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", ".*_cache")
    return Path(shutil.copytree(ROOT, folder / "tree", ignore=leave, symlinks=True))


def _draw(count: int, seed: int) -> list[WorkItem]:
    """Mutants of all modules, drawn without replacement."""
    with use_db(Path("every.sqlite"), WorkDB.Mode.create) as every:
        init(sorted(map(Path, TESTS)), every, {})
        items = [i for i in every.work_items if LEFT_OUT not in i.mutations[0].operator_name]
    # Their own order is random.
    items.sort(key=_place)
    print(f"{len(items)} mutants of {len(TESTS)} modules, {count} drawn by seed {seed}", flush=True)
    return random.Random(seed).sample(items, min(count, len(items)))


def _place(item: WorkItem) -> tuple[Any, ...]:
    mutation = item.mutations[0]
    place = str(mutation.module_path), *mutation.start_pos, *mutation.end_pos
    return *place, mutation.operator_name, mutation.occurrence


def _name(item: WorkItem) -> str:
    mutation = item.mutations[0]
    operator = mutation.operator_name.removeprefix("core/")
    return f"{mutation.module_path}:{mutation.start_pos[0]} {operator}"


def _tests_of(item: WorkItem) -> str:
    return TESTS[str(item.mutations[0].module_path)]


def _command(tests: str) -> str:
    return f"{' '.join(PYTEST)} {tests}"


def _require_green(tests: str) -> None:
    """Stops unless tests pass without a mutant: else all mutants would count as killed."""
    finished = subprocess.run(_command(tests), shell=True, capture_output=True, text=True)
    if finished.returncode:
        sys.exit(f"error: {tests} fails without a mutant:\n{finished.stdout[-2000:]}")


def _summary(results: list[tuple[WorkItem, WorkResult]]) -> dict[str, Any]:
    """Prints survivors with their changes, and the share of killed mutants."""
    killed = sum(result.is_killed for _, result in results)
    by_module: dict[str, list[bool]] = collections.defaultdict(list)
    survivors = []
    for item, result in sorted(results, key=lambda pair: _place(pair[0])):
        by_module[str(item.mutations[0].module_path)].append(result.is_killed)
        if not result.is_killed:
            survivors.append({"mutant": _name(item), "diff": result.diff})
            print(f"\nsurvived: {_name(item)}\n{result.diff}")
    for module, outcomes in by_module.items():
        print(f"{module:<36} {sum(outcomes)} of {len(outcomes)} killed")
    print(f"{killed} of {len(results)} mutants killed, {killed / max(1, len(results)):.1%}")
    return {"mutants": len(results), "killed": killed, "survivors": survivors}


if __name__ == "__main__":
    main()
