"""What `avq bench` says: every measure, against the others and against counting by hand."""

import json
import time

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P
from typer.testing import CliRunner

from avq import bench, cli, config, parallel

KEYS = (
    *("device", "jax", "python", "config", "batch_size", "image_size", "dtype"),
    *("compile_s", "flops_per_image", "achieved_flops", "matmul_flops", "peak_share"),
    *("peak_memory_bytes", "data_wait"),
)
CACHE = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


def invoke(*arguments):
    return CliRunner().invoke(cli.app, ["bench", *map(str, arguments)])


@pytest.fixture(scope="module")
def measured(plain, tmp_path_factory):
    """What the command printed, and the JSON that it wrote, of a run on two devices."""
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    spec, *settings = plain
    settings.append("--config.parallel.devices=2")
    result = invoke(spec.removeprefix("--config="), *settings, "--json", file)
    assert result.exit_code == 0, result.output
    return result, json.loads(file.read_text())


def test_every_key_of_the_contract_is_there(measured):
    _, report = measured
    assert set(KEYS) <= report.keys()
    assert {"step_ms", "step_ms_lower", "step_ms_upper", "images_per_s"} <= report["train"].keys()
    for part in ("encode", "decode"):
        assert {"ms", "ms_lower", "ms_upper", "images_per_s"} <= report[part].keys()


def test_report_says_what_was_run_on_what(measured, image_folder):
    _, report = measured
    assert report["config"].startswith("configs/vqvae.py:tiny --config.data.path=")
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


def test_peak_of_memory_holds_the_state_at_least(measured, plain):
    system, _ = bench.checked(config.load(plain))
    state = jax.eval_shape(lambda: system.init(0, 16))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert measured[1]["peak_memory_bytes"] > size


def test_table_is_printed_and_stages_go_to_stderr(measured):
    result, report = measured
    assert f"{report['train']['step_ms']:,.1f} ms" in result.stdout
    assert "timing training ..." in result.stderr
    assert "..." not in result.stdout


def test_operations_of_an_image_are_the_same_however_many_devices(measured, plain):
    # Traced alone, on one device, with twice the batch.
    loaded = config.load([*plain, "--config.data.batch_size=16"])
    system, mesh = bench.checked(loaded)
    step = parallel.compile_step(bench.make_step(system, loaded, 0.3), mesh)
    state = jax.eval_shape(lambda: system.init(0, 16))
    traced = step.trace(state, jax.ShapeDtypeStruct((16, 16, 16, 3), jnp.uint8))
    alone = bench.matrix_flops(traced.jaxpr.jaxpr) / 16
    assert measured[1]["flops_per_image"] == pytest.approx(alone, rel=0.01)
    # XLA's count adds what is not for matrix units; a network this thin has much of it.
    whole = traced.lower().cost_analysis()["flops"] / 16
    assert 0.3 * whole < alone < whole


def flops(function, *shapes):
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return bench.matrix_flops(jax.jit(function).trace(*shapes).jaxpr.jaxpr)


def test_operations_of_a_product_and_of_its_gradient_are_those_of_a_hand_count():
    forward = 2 * 5 * 7 * 11
    assert flops(jnp.matmul, (5, 7), (7, 11)) == forward
    gradient = jax.grad(lambda a, b: jnp.sum((a @ b) ** 2), argnums=(0, 1))
    assert flops(gradient, (5, 7), (7, 11)) == 3 * forward


def test_operations_of_a_convolution_leave_out_the_padding():
    def conv(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    taps = (3 * 8 - 2) ** 2  # of a 3x3 kernel over 8x8 pixels, those inside
    assert flops(conv, (2, 8, 8, 3), (3, 3, 3, 5)) == 2 * 2 * taps * 3 * 5


def test_operations_in_a_loop_count_as_often_as_they_run():
    def looped(a):
        return lax.map(lambda x: lax.map(lambda y: y @ y, x), a)

    assert flops(looped, (3, 4, 5, 5)) == 3 * 4 * 2 * 5**3


def test_operations_are_those_of_all_devices():
    part = P(parallel.AXIS)
    mesh = parallel.make_mesh(4)
    split = jax.shard_map(lambda a: a @ a.T, mesh=mesh, in_specs=part, out_specs=part)
    assert flops(split, (8, 3)) == 4 * (2 * 2 * 3 * 2)


def test_times_are_median_and_quartiles_without_the_warm_up(monkeypatch):
    clock = [0.0]
    lasts = iter(
        [100.0, 100.0, 3.0, 1.0, 5.0, 2.0, 4.0]
    )  # seconds of each call, two of them to warm up

    def call():
        clock[0] += next(lasts)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert bench.time_calls(call, runs=5, warm_up=2) == bench.Times(3e3, 2e3, 4e3)
    assert next(lasts, None) is None


def test_step_is_compiled_although_the_cache_has_it(tmp_path):
    before = {name: getattr(jax.config, name) for name in CACHE}
    compiled = jax.jit(lambda x: x * 3 + 1).lower(1.0)
    try:
        for name, value in zip(CACHE, (str(tmp_path), 0.0), strict=True):
            jax.config.update(name, value)
        with bench.without_compilation_cache():
            compiled.compile()
        assert not list(tmp_path.iterdir())
        assert jax.config.jax_enable_compilation_cache
        jax.jit(lambda x: x * 5 + 1).lower(1.0).compile()
        assert list(tmp_path.iterdir())  # afterwards, it is used as before
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        bench.compilation_cache.reset_cache()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["configs/none.py"], "no such file"),
        (["configs/ah_vqvae.py:tiny", "--config.data.batchsize=3"], "data.batch_size"),
        (["configs/ah_vqvae.py:tiny", "--config.data.image_size=30"], "stride"),
        (["configs/ah_vqvae.py:tiny", "--config.data.batch_size=9"], "8 devices"),
        (["configs/ah_vqvae.py:tiny", "--config.data.path=nowhere"], "nowhere"),
        (["configs/ah_vqvae.py:tiny", "--json", "nowhere/bench.json"], "no folder 'nowhere'"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(arguments, message, monkeypatch):
    monkeypatch.setattr(bench, "Training", None)  # nothing is compiled
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_photographs_stand_in_where_no_data_is_named(smoke, monkeypatch):
    class Stop(Exception):
        pass

    def stop(images, data, **_):
        raise Stop(type(images.source).__name__)

    monkeypatch.setattr(bench, "train_batches", stop)
    loaded = config.load([*smoke, "--config.data.path="])
    with pytest.raises(Stop, match="Photographs"):
        bench.bench(loaded)
    assert loaded.data.path == ""
