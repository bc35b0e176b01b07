"""Parts of `python -m benchmarks.gpu`: their time, their figures, or why there are none."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avq.models.convolutions import upsampling_conv
from benchmarks.accelerator import gpu, kernels, numerics, short_run, systems, waiting
from benchmarks.accelerator.determinism import differing
from benchmarks.accelerator.parts import Case, LeftOut, Part, Shared, run_part
from benchmarks.accelerator.sizes import SHRUNK, TRIAL, of_accelerator


class Clock:
    """A clock that stands still until it is moved on."""

    now = 100.0

    def __call__(self):
        return self.now

    def case(self, seconds, **figures):
        def measure():
            self.now += seconds
            return figures

        return Case({"takes": seconds}, measure)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shared(clock):
    return Shared(TRIAL, "photographs", clock)


def part_of(*cases, name="part", share=1.0):
    return Part(name, share, lambda shared: cases)


def test_no_row_is_begun_that_would_not_fit_by_what_the_last_took(clock, shared):
    part = part_of(*(clock.case(30, ms=1.5) for _ in range(5)))
    result = run_part(part, shared, 100)
    assert result["rows"] == 3 * [{"takes": 30, "ms": 1.5, "seconds": 30.0}]
    assert result["seconds"] == 90
    assert result["left_out"] == "2 of 5 rows: 10 s were left, and the next takes about 30 s"
    assert "skipped" not in result


def test_row_that_compiles_a_step_needs_the_time_that_the_last_such_one_took(clock, shared):
    compiling = replace(clock.case(50), compiles=True)
    result = run_part(part_of(compiling, clock.case(1), clock.case(2), compiling), shared, 90)
    assert [row["takes"] for row in result["rows"]] == [50, 1, 2]
    assert result["left_out"] == "1 of 4 rows: 37 s were left, and the next takes about 50 s"


def test_part_is_skipped_with_a_word_where_its_first_row_has_to_compile_and_does_not_fit(
    clock, shared
):
    result = run_part(part_of(replace(clock.case(1), compiles=True)), shared, 12)
    assert result["rows"] == []
    assert result["skipped"] == "1 of 1 rows: 12 s were left, and the next takes about 15 s"


def test_part_measures_one_row_that_compiles_nothing_whatever_is_left(clock, shared):
    def unknown():
        raise LeftOut("AH and H were not both measured")

    part = part_of(Case({}, unknown), clock.case(2, ms=1.0), clock.case(2, ms=1.0))
    result = run_part(part, shared, -30)
    assert [row.get("ms") for row in result["rows"]] == [None, 1.0]
    assert result["left_out"] == "1 of 3 rows: 0 s were left, and the next takes about 2 s"


def test_part_that_has_nothing_to_measure_says_why(shared):
    def cases(shared):
        raise LeftOut("torch is not installed")

    result = run_part(Part("twin", 1, cases), shared, 100)
    assert result == {
        "name": "twin",
        "seconds": 0.0,
        "rows": [],
        "skipped": "torch is not installed",
    }


def test_case_that_fails_leaves_the_others(clock, shared):
    def out_of_memory():
        raise RuntimeError("RESOURCE_EXHAUSTED: 90 GiB\nmany more lines")

    def too_large():
        raise LeftOut("needs about 90 GiB of 80 GiB")

    part = part_of(Case({}, out_of_memory), Case({}, too_large), clock.case(1, ms=2.0))
    first, second, third = run_part(part, shared, 100)["rows"]
    assert first == {"failed": "RuntimeError: RESOURCE_EXHAUSTED: 90 GiB", "seconds": 0.0}
    assert second["left_out"] == "needs about 90 GiB of 80 GiB"
    assert third["ms"] == 2.0


def test_time_that_a_part_leaves_goes_to_those_behind_it(clock, shared, tmp_path):
    ends = []

    def noted(shared):
        ends.append(shared.until - clock.now)
        return [clock.case(10)]

    parts = [Part("a", 3, noted), Part("b", 1, noted), Part("c", 1, noted)]
    gpu.run(parts, shared, 100, tmp_path / "out.json", {})
    assert ends == [60, 45, 80]


def test_file_has_the_rows_so_far_after_every_row(clock, shared, tmp_path, capsys):
    file, seen = tmp_path / "out.json", []

    def look():
        seen.append(json.loads(file.read_text()))
        return {"ms": 1.0}

    parts = [part_of(clock.case(1), Case({}, look), name="a"), part_of(Case({}, look), name="b")]
    results = gpu.run(parts, shared, 1000, file, {"device": "a card"})
    within, between = seen
    assert [len(part["rows"]) for part in within["parts"]] == [1]
    assert [part["name"] for part in between["parts"]] == ["a"]
    assert json.loads(file.read_text()) == {
        "jax": jax.__version__,
        "device": "a card",
        "parts": results,
    }
    assert "a  takes 1" in capsys.readouterr().out


def test_every_part_measures_its_first_row_on_a_cpu(tmp_path, capsys):
    sizes = replace(TRIAL, systems={"vqvae": ("--config=vqvae:tiny", *SHRUNK)}, batches=(4,))

    def first_of(part):
        return replace(part, cases=lambda shared: part.cases(shared)[:1])

    parts = [first_of(part) for part in gpu.PARTS if part.name != "torch_twin"]
    shared = Shared(sizes, "photographs")
    results = gpu.run(parts, shared, 1e6, tmp_path / "out.json", gpu.about_device())
    capsys.readouterr()
    rows = {part["name"]: part["rows"][0] for part in results}
    assert not [row for row in rows.values() if "failed" in row]
    assert rows["numerics"]["passed"]
    assert 0 < rows["systems"]["peak_share"] < 1
    assert rows["systems"]["images_per_s"] == pytest.approx(
        1e3 * 4 / rows["systems"]["step_ms"], rel=0.01
    )
    assert rows["attention"]["left_out"] == "AH and H were not both measured"
    assert rows["determinism"]["leaves_that_differ"] == 0
    assert [row["step"] for row in rows["training"]["curve"]] == [2, 4]
    assert 0 <= rows["waiting"]["data_wait"] <= 1
    assert rows["code_search"]["exact"]


def test_settings_begin_with_the_first_and_those_that_differ_in_one_respect():
    sizes = of_accelerator(80 * 2**30)
    ordered = systems.by_worth(sizes)
    assert len(set(ordered)) == len(ordered) == 6 * 5 * 3 * 2
    assert ordered[0] == ("ah_vqvae", 16, "bf16", False)
    changes = [sum(a != b for a, b in zip(s, ordered[0], strict=True)) for s in ordered]
    assert changes == sorted(changes)
    assert ordered[1:5] == [
        ("h_vqvae", 16, "bf16", False),
        ("ah_vqvae", 32, "bf16", False),
        ("ah_vqvae", 16, "tf32", False),
        ("ah_vqvae", 16, "bf16", True),
    ]


@pytest.mark.parametrize(("gib", "batch"), [(125, 32), (72, 16), (21, 4), (0, 2)])
def test_first_batch_is_the_largest_that_memory_holds_for_both_sides(gib, batch):
    assert of_accelerator(gib * 2**30).batches[0] == batch
    assert {16, 32, 64, 128, 256} <= set(of_accelerator(gib * 2**30).batches)


def test_batch_that_would_need_more_memory_than_there_is_is_left_out(shared, monkeypatch):
    device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 10 * 2**30})
    monkeypatch.setattr(jax, "devices", lambda: [device])
    large = systems.Setting("ah_vqvae", 64, "bf16", False)
    with pytest.raises(LeftOut, match="needs about 16 GiB of 10 GiB"):
        systems.measure(shared, large, {large._replace(batch=0): 0.25 * 2**30})


def test_ratio_of_ah_to_h_is_of_the_first_case_s_rows(shared):
    about: dict[str, Any] = {"batch": 4, "precision": "fp32", "remat": False}
    shared.rows["systems"] = [
        about | {"system": "ah_vqvae", "step_ms": 11.0},
        about | {"system": "h_vqvae", "failed": "no memory"},
        about | {"system": "h_vqvae", "step_ms": 7.0, "batch": 8},
    ]
    with pytest.raises(LeftOut):
        kernels.ah_over_h(shared)
    shared.rows["systems"].append(about | {"system": "h_vqvae", "step_ms": 10.0})
    assert kernels.ah_over_h(shared)["value"] == pytest.approx(1.1)


@pytest.mark.parametrize("name", numerics.CHECKS)
def test_formulas_are_those_of_our_functions(name):
    row = numerics.check(name, "bfloat16" if "attention" in name else "float32")
    assert row["passed"]
    assert 0 < row["difference"] < row["allowed"]


def test_function_that_computes_something_else_does_not_pass(monkeypatch):
    def without_a_tap(x, kernel):
        return upsampling_conv(x, kernel.at[0, 0].set(0))

    monkeypatch.setattr(numerics, "upsampling_conv", without_a_tap)
    assert not numerics.check("transposed convolution", "float32")["passed"]


def test_difference_is_the_largest_of_all_arrays_relative_to_the_largest_value():
    ours = [jnp.array([1.0, 2.0]), jnp.array([[10.0]])]
    assert numerics.largest_difference(ours, [np.array([1.0, 4.0]), np.array([[8.0]])]) == 0.5


def test_bits_differ_where_numbers_are_equal_and_agree_where_they_are_nan():
    zeros, nans = np.zeros(2, np.float32), np.full(2, np.nan, np.float32)
    first, second = [zeros, nans, zeros], [-zeros, nans, zeros]
    assert differing(first, second) == {"leaves": 3, "leaves_that_differ": 1}


def test_curve_has_the_evaluations_and_the_seconds_of_the_steps(tmp_path):
    records: list[dict[str, Any]] = [
        {"step": 10, "train/loss": 1.0, "train/images_per_second": 40.0, "train/data_wait": 0.1},
        {"step": 10, "eval/psnr": 20.0},
        {"step": 20, "train/loss": 1.0, "train/images_per_second": 80.0, "train/data_wait": 0.2},
        {"step": 20, "eval/psnr": 21.0},
    ]
    lines = "\n".join(json.dumps(record) for record in records)
    (tmp_path / "metrics.jsonl").write_text(lines)
    task: Any = SimpleNamespace(batch_size=8, train=SimpleNamespace(steps=20))
    assert short_run.curve(tmp_path, task) == [
        {"step": 10, "step_s": 2.0, "psnr": 20.0},
        {"step": 20, "step_s": 3.0, "psnr": 21.0},
    ]


def test_sources_hold_the_same_images(squares, image_folder, tmp_path):
    opened = {}
    for kind in waiting.KINDS:
        (tmp_path / kind).mkdir()
        opened[kind] = waiting.open_kind(kind, str(image_folder), tmp_path / kind, 16, most=5)
    expected = squares(image_folder)[:5]
    assert {len(source) for source in opened.values()} == {5}
    assert opened["zip"][0].shape == (24, 20, 3)
    for kind in ("memory", "shards"):
        np.testing.assert_array_equal(np.stack([opened[kind][i] for i in range(5)]), expected)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--minutes", "0"], "--minutes 0 is no time"),
        (["--data", "nowhere.zip"], "no such file or folder: 'nowhere.zip'"),
        (["--json", "nowhere/out.json"], "nowhere/out.json"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_measured(flags, words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu", *flags])
    with pytest.raises(SystemExit) as stopped:
        gpu.main()
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err
