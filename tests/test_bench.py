"""Measures of a config's cost, against each other and against counts of one device."""

import json
import time
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from avq import bench, cpu, program, tasks
from avq.train.loop import optimizers_of
from avq.train.state import init_state

KEYS = (
    *("device", "jax", "python", "batch_size", "image_size", "dtype"),
    *("compile_s", "flops_per_image", "achieved_flops", "matmul_flops", "peak_share"),
    *("peak_memory_bytes", "data_wait"),
)
CACHE = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(scope="module")
def measured(plain):
    """Report on two devices, and the stages named meanwhile."""
    stages: list[str] = []
    config = tasks.load([*plain, "--config.parallel.devices=2"])
    report = bench.bench(config, on_stage=stages.append)
    return stages, json.loads(json.dumps(report))


def test_every_key_of_the_contract_is_there(measured):
    _, report = measured
    assert set(KEYS) <= report.keys()
    assert {"step_ms", "step_ms_lower", "step_ms_upper", "images_per_s"} <= report["train"].keys()
    for part in ("encode", "decode"):
        assert {"ms", "ms_lower", "ms_upper", "images_per_s"} <= report[part].keys()


def test_report_names_data_sizes_versions_and_device(measured, image_folder):
    _, report = measured
    assert report["data"] == str(image_folder)
    assert (report["batch_size"], report["image_size"]) == (8, 16)
    assert (report["jax"], report["dtype"]) == (jax.__version__, "float32")
    assert report["device"].startswith("cpu: ")
    assert report["device"].endswith("cores, 2 devices")


def test_measures_agree_with_each_other(measured):
    _, report = measured
    times = [report["train"]["step_ms"], report["encode"]["ms"], report["decode"]["ms"]]
    for part, milliseconds in zip(("train", "encode", "decode"), times, strict=True):
        assert report[part]["images_per_s"] == pytest.approx(8 / (milliseconds / 1e3))
    train = report["train"]
    assert 0 < train["step_ms_lower"] <= train["step_ms"] <= train["step_ms_upper"]
    reached = report["flops_per_image"] * train["images_per_s"]
    assert report["achieved_flops"] == pytest.approx(reached)
    assert report["peak_share"] == pytest.approx(reached / report["matmul_flops"])
    assert 0 < report["peak_share"] < 1
    assert 0 <= report["data_wait"] <= 1
    assert report["compile_s"] > 0
    assert set(report["instructions"]) <= set(cpu.VECTOR_INSTRUCTIONS)
    assert report["options"] == {u: cpu.compiler_options(u) for u in ("training", "inference")}


def test_peak_of_memory_holds_the_state_at_least(measured, plain):
    task, _ = bench.runnable_task(tasks.load(plain))
    state = jax.eval_shape(lambda: init_state(task, optimizers_of(task)))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert measured[1]["peak_memory_bytes"] > size


def test_table_has_the_numbers_of_the_report_and_every_stage_is_named(measured):
    stages, report = measured
    table = bench.as_table(report)
    for name in cpu.VECTOR_INSTRUCTIONS:
        assert name in table
    for milliseconds in (report["train"]["step_ms"], report["encode"]["ms"]):
        assert f"{milliseconds:,.1f} ms" in table
    assert f"{report['train']['images_per_s']:,.1f} images/s" in table
    assert [stage for stage in stages if "training" in stage] == [
        "compiling the training step",
        "timing training",
    ]


def test_operations_of_an_image_are_the_same_however_many_devices(measured, plain):
    # Traced alone, on one device, with twice the batch.
    task, mesh = bench.runnable_task(tasks.load([*plain, "--config.data.batch_size=16"]))
    traced = bench.trace_step(task, mesh, {"image": np.zeros((16, 16, 16, 3), np.uint8)})
    alone = program.matrix_flops(traced.jaxpr.jaxpr) / 16
    assert measured[1]["flops_per_image"] == pytest.approx(alone, rel=0.01)
    # XLA's count adds what is not for matrix units; a network this thin has much of it.
    whole = traced.lower().cost_analysis()["flops"] / 16
    assert 0.3 * whole < alone < whole


def test_times_are_median_and_quartiles_without_the_warm_up(monkeypatch):
    clock = [0.0]
    # Seconds of each call, two of them to warm up.
    lasts = iter([100.0, 100.0, 3.0, 1.0, 5.0, 2.0, 4.0])

    def call():
        clock[0] += next(lasts)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert bench.time_calls(call, runs=5, warm_up=2) == bench.Times(3e3, 2e3, 4e3)
    assert next(lasts, None) is None


def test_step_is_compiled_although_the_cache_has_it(tmp_path):
    settings: Any = jax.config
    before = {name: getattr(settings, name) for name in CACHE}
    compiled = jax.jit(lambda x: x * 3 + 1).lower(1.0)
    try:
        for name, value in zip(CACHE, (str(tmp_path), 0.0), strict=True):
            settings.update(name, value)
        with cpu.without_compilation_cache():
            compiled.compile()
        assert not list(tmp_path.iterdir())
        assert settings.jax_enable_compilation_cache
        jax.jit(lambda x: x * 5 + 1).lower(1.0).compile()
        assert list(tmp_path.iterdir())  # afterwards, it is used as before
    finally:
        for name, value in before.items():
            settings.update(name, value)
        compilation_cache.reset_cache()


def test_photographs_stand_in_where_no_data_is_named(smoke, monkeypatch):
    class Stop(Exception):
        pass

    def stop(images, data, **_):
        raise Stop(type(images.source).__name__)

    monkeypatch.setattr(bench, "train_batches", stop)
    loaded = tasks.load([*smoke, "--config.data.path="])
    with pytest.raises(Stop, match="Photographs"):
        bench.bench(loaded)
    assert loaded.data.path == ""
