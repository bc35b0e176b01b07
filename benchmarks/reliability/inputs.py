"""Values and run files that no one should give: each works or is refused in one line.

    python -m benchmarks.inputs [--json FILE] [--overrides N] [--edits N] [--seed SEED]

Three kinds: settings of a config overridden by values of another type, sign or size, up to the
first step; `config.json` and `dataset.json` of a run, edited and then read by `avq eval` or by a
resumed run; lines of `metrics.jsonl` that are no records. Of the first two, N cases are drawn by
the seed. A case fails when it ends in an exception that is no `InputError`, or prints a measure
that is not finite.
"""

import json
import math
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
from typer.testing import CliRunner

from avq import cli, tasks
from avq.config import CONFIG, DATASET, flatten
from avq.errors import InputError
from avq.train import loop
from benchmarks._common import make_parser, write_json

TINY = {
    "data.image_size": 16,
    "data.batch_size": 8,
    "model.codebook_size": 8,
    "model.code_dim": 4,
    "model.base_filters": "(4,4)",
    "model.aren_filters": 4,
    "model.decoder_filters": "(4,4,4)",
    "model.attention_dim": 4,
    "model.encoder_blocks": 0,
    "model.decoder_blocks": 0,
    "discriminator.filters": "(4,4,1)",
    "discriminator.strides": "(2,2,1)",
    "train.steps": 2,
    "parallel.devices": 1,
}
ARGUMENTS = ["--config=ah_vqvae:tiny", *(f"--config.{key}={value}" for key, value in TINY.items())]
OVERRIDES = ["nan", "inf", "-inf", "-1", "0", "1e20", "1" + 30 * "0", "", "None", "x", "()"]
OVERRIDES += ["(1,)", "((1,),)", "True", "max(1)", "2.5"]
EDITS: list[Any] = [None, "x", -1, 0, math.nan, math.inf, 10**12, [], [[1]], {}, True]
RECORDS = ["", "no json", "[]", "3", "null", '"step"', "{}", '{"step": null}', '{"step": "1"}']
FAILED = "failed"


def outcome(call: Callable[[], Any]) -> str:
    """'works', 'refused', or 'failed' with the exception."""
    try:
        call()
    except InputError as error:
        return "refused" if "\n" not in str(error) else f"{FAILED}: several lines: {error}"
    except Exception as error:
        return f"{FAILED}: {type(error).__name__}: {' '.join(str(error).split())[:150]}"
    return "works"


def begin(arguments: list[str]) -> None:
    """All that a run does before its first step is compiled."""
    task = tasks.make_task(tasks.load(arguments))
    loop.require_runnable(task, loop.optimizers_of(task))
    task.open_data(None)


def overrides() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every setting with every value."""
    for key in flatten(tasks.load(ARGUMENTS).to_dict()):
        for value in OVERRIDES:
            argument = f"--config.{key}={value}"
            yield argument, partial(begin, [*ARGUMENTS, argument])


def edits(run: Path, copy: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every key of a run's files with every value, and without it; read in two ways."""
    for name in (CONFIG, DATASET):
        content = json.loads((run / name).read_text())
        places: list[tuple[str, ...]] = [(key,) for key in content]
        places += [(a, b) for a in content if isinstance(content[a], dict) for b in content[a]]
        for place in places:
            for value in ["removed", *EDITS]:
                for reader in (evaluate, resume):
                    title = f"{name} {'.'.join(place)}={value!r} {reader.__name__}"
                    edited = json.loads(json.dumps(content))
                    section = edited if len(place) == 1 else edited[place[0]]
                    section[place[-1]] = value
                    if value == "removed":
                        del section[place[-1]]
                    yield title, partial(read_edited, run, copy, name, edited, reader)


def read_edited(
    run: Path, copy: Path, name: str, edited: Any, reader: Callable[[Path], None]
) -> None:
    """Reads a copy of the run with one file replaced."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    (copy / name).write_text(json.dumps(edited))
    reader(copy)


def records(run: Path, copy: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """A run with a line that is no record, resumed."""
    for line in RECORDS:

        def read(line: str = line) -> None:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(run, copy)
            with (copy / "metrics.jsonl").open("a") as file:
                file.write(line + "\n")
            resume(copy)
            for kept in (copy / "metrics.jsonl").read_text().splitlines():
                assert isinstance(json.loads(kept)["step"], int), kept

        yield f"metrics.jsonl {line!r}", read


def evaluate(run: Path) -> None:
    """`avq eval`, whose measures have to be finite."""
    result = CliRunner().invoke(cli.app, ["eval", str(run), "--json", str(run / "eval.json")])
    if result.exit_code == 2:
        raise InputError(result.stderr.strip())
    if result.exception:
        raise result.exception
    measures = flatten(json.loads((run / "eval.json").read_text()))
    for key, value in measures.items():
        numbers = value if isinstance(value, list) else [value]
        for number in numbers:
            assert isinstance(number, str) or math.isfinite(number), f"{key} {number}"


def resume(run: Path) -> None:
    """One more step of the run."""
    task = tasks.make_task(tasks.load([*ARGUMENTS, "--config.train.steps=3"]))
    loop.train(task, str(run))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--overrides", type=int, default=545, metavar="N")
    parser.add_argument("--edits", type=int, default=59, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        run, copy = Path(folder, "run"), Path(folder, "copy")
        loop.train(tasks.make_task(tasks.load(ARGUMENTS)), str(run))
        kinds = {
            "overrides": (list(overrides()), arguments.overrides),
            "edited run files": (list(edits(run, copy)), arguments.edits),
            "lines that are no records": (list(records(run, copy)), len(RECORDS)),
        }
        for kind, (cases, wanted) in kinds.items():
            drawn = random.Random(arguments.seed).sample(cases, min(wanted, len(cases)))
            outcomes = {title: outcome(call) for title, call in drawn}
            counts = Counter(text.split(":")[0] for text in outcomes.values())
            failures = {k: v for k, v in outcomes.items() if v.startswith(FAILED)}
            result[kind] = {"cases": len(cases), "drawn": len(drawn), **counts} | {
                "failures": failures
            }
            print(f"{kind}: {len(drawn)} of {len(cases)}: {dict(counts)}", flush=True)
            for title, text in failures.items():
                print(f"  {title}: {text}", flush=True)
    write_json(arguments.json, result)


if __name__ == "__main__":
    main()
