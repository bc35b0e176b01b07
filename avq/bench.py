"""What a config costs on this machine: time, speed, operations, memory."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, UInt8

from avq import cpu, parallel
from avq.config import refused_values
from avq.data.dataset import Readable
from avq.data.pipeline import BATCHES_AHEAD, prefetch, train_batches
from avq.data.sources import open_splits
from avq.models.vqvae import VQVAE
from avq.pixels import to_float
from avq.train.interval import Interval
from avq.train.loop import check
from avq.train.system import System, build, make_step

Report = dict[str, Any]

PIXEL_VARIANCE = 0.3  # any value costs the same; measuring the pixels would cost a wait


@dataclass(frozen=True)
class Times:
    """Milliseconds of repeated calls: median, and the quarter of them below and above."""

    median: float
    lower: float
    upper: float


def time_calls(call: Callable[[], Any], *, runs: int = 10, warm_up: int = 2) -> Times:
    """Times calls one by one, each until its result is there, after `warm_up` that do not count."""
    for _ in range(warm_up):
        jax.block_until_ready(call())
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(1e3 * (time.perf_counter() - began))
    lower, median, upper = statistics.quantiles(times, n=4, method="inclusive")
    return Times(median, lower, upper)


def bench(config: Any, runs: int = 10, say: Callable[[str], object] = lambda stage: None) -> Report:
    """Measures training, encoding and decoding of a config, as `avq bench --json` names it.

    Where the config names no data, the embedded photographs stand in.

    Args:
        config: as for training; its devices share the batch.
        runs: timed calls of each kind, at least 2.
        say: called with every stage as it begins.

    Raises:
        InputError: for what training refuses.
    """
    system, mesh = checked(config)
    data = config.data.copy_and_resolve_references()
    data.path = data.path or "photographs"
    batches = train_batches(Readable(open_splits(data)["train"]), data, seed=config.seed)
    say("compiling the training step")
    training = Training(config, system, mesh)
    say("timing training")
    report = description(config, mesh) | {"data": data.path} | training.measure(batches[0], runs)
    say("stepping through the data")
    report["data_wait"] = data_wait(training, batches, runs)
    report |= _uses(training, batches[0], runs, say)
    say("timing a matrix product")
    report["matmul_flops"] = matmul_flops(mesh, config.model.dtype, runs)
    report["peak_share"] = report["achieved_flops"] / report["matmul_flops"]
    return report


def checked(config: Any) -> tuple[System, Mesh]:
    """What a config describes, and the devices that it runs on.

    Raises:
        InputError: for what training refuses.
    """
    with refused_values("config"):
        system = build(config)
    return system, check(config, system)


def description(config: Any, mesh: Mesh) -> Report:
    """Machine, versions and sizes, without which the numbers mean nothing."""
    return {
        "device": device_in_words(mesh),
        "devices": mesh.size,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "batch_size": config.data.batch_size,
        "image_size": config.data.image_size,
        "dtype": config.model.dtype,
    }


class Training:
    """A config's training step, compiled for its devices, and the state that it updates.

    Attributes:
        system: modules and optimisers.
        mesh: the devices.
        batch_size: over all devices.
        compiled: the step, as XLA's program for them.
        state: after the steps so far.
        compile_s: seconds to trace and compile the step; no cache is asked.
        flops_per_image: see `matrix_flops`; of both players.
    """

    def __init__(self, config: Any, system: System, mesh: Mesh) -> None:
        self.system, self.mesh, self.batch_size = system, mesh, config.data.batch_size
        size = config.data.image_size
        init = partial(system.init, config.seed, size)
        self.state = parallel.everywhere(init, mesh)
        batch = jax.ShapeDtypeStruct(
            (self.batch_size, size, size, 3),
            jnp.uint8,
            sharding=NamedSharding(mesh, P(parallel.AXIS)),
        )
        step: Any = parallel.compile_step(make_step(system, config, PIXEL_VARIANCE), mesh)
        with without_compilation_cache():
            began = time.perf_counter()
            traced = step.trace(self.state, batch)
            self.compiled = traced.lower().compile()
            self.compile_s = time.perf_counter() - began
        self.flops_per_image = matrix_flops(traced.jaxpr.jaxpr) / self.batch_size

    def step(self, images: UInt8[Array, "b s s 3"]) -> Any:
        """The next step; returns its metrics."""
        self.state, metrics = self.compiled(self.state, images)
        return metrics

    def measure(self, images: UInt8[np.ndarray, "b s s 3"], runs: int) -> Report:
        """Time, operations and memory of the step, on the same batch again and again."""
        batch = parallel.place(images, self.mesh)
        train = speed(time_calls(lambda: self.step(batch), runs=runs), self.batch_size, "step_ms")
        return {
            "compile_s": self.compile_s,
            "train": train,
            "flops_per_image": self.flops_per_image,
            "achieved_flops": self.flops_per_image * train["images_per_s"],
            "peak_memory_bytes": self.peak_memory(),
        }

    def peak_memory(self) -> int:
        """Bytes on the fullest device: since the process began where the backend keeps count, else
        what the compiled step asks for.
        """
        counts = [device.memory_stats() or {} for device in self.mesh.devices.flat]
        peaks = [count["peak_bytes_in_use"] for count in counts if "peak_bytes_in_use" in count]
        if peaks:
            return max(peaks)
        needs = self.compiled.memory_analysis()
        kept = needs.argument_size_in_bytes + needs.output_size_in_bytes
        return kept + needs.temp_size_in_bytes - needs.alias_size_in_bytes


def speed(times: Times, batch_size: int, name: str = "ms") -> Report:
    """Times under a name, and images a second at the median."""
    return {
        name: times.median,
        f"{name}_lower": times.lower,
        f"{name}_upper": times.upper,
        "images_per_s": 1e3 * batch_size / times.median,
    }


def data_wait(training: Training, batches: Any, steps: int) -> float:
    """Share of time spent waiting for data, 0..1, when stepping through batches as training does.

    What was made ahead before the first step does not count.
    """
    stream, interval = prefetch(batches, 0), Interval(0)
    try:
        for done in range(BATCHES_AHEAD + steps):
            if done == BATCHES_AHEAD:
                interval.restart()
            with interval.waiting():
                images = next(stream)
            interval.add(training.step(parallel.place(images, training.mesh)))
        return interval.summary(steps, training.batch_size)["train/data_wait"]
    finally:
        stream.close()  # type: ignore[attr-defined]


def _uses(
    training: Training,
    images: UInt8[np.ndarray, "b s s 3"],
    runs: int,
    say: Callable[[str], object],
) -> Report:
    """Speed of encoding and decoding, with the averaged parameters."""
    model: Any = training.system.vqvae
    variables = training.state.ema_variables()
    split = NamedSharding(training.mesh, P(parallel.AXIS))
    options = cpu.compiler_options("inference")
    compiled = partial(jax.jit, out_shardings=split, compiler_options=options)
    encode = compiled(partial(model.apply, method=VQVAE.encode))
    decode = compiled(partial(model.apply, method=VQVAE.decode))
    pixels = to_float(parallel.place(images, training.mesh))
    say("timing encoding")
    encoding = time_calls(lambda: encode(variables, pixels), runs=runs)
    codes = encode(variables, pixels)
    say("timing decoding")
    decoding = time_calls(lambda: decode(variables, codes), runs=runs)
    return {
        "encode": speed(encoding, training.batch_size),
        "decode": speed(decoding, training.batch_size),
    }


def matmul_flops(mesh: Mesh, dtype: str, runs: int) -> float:
    """FLOP/s of a large square matrix product, one on each device: what can be had at best."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    numbers = np.random.default_rng(0).standard_normal((mesh.size * side, side), np.float32)
    rows = parallel.place(numbers.astype(jnp.dtype(dtype)), mesh)
    part = P(parallel.AXIS)
    product = jax.jit(jax.shard_map(lambda a: a @ a, mesh=mesh, in_specs=part, out_specs=part))
    seconds = time_calls(lambda: product(rows), runs=runs).median / 1e3
    return mesh.size * 2 * side**3 / seconds


def matrix_flops(program: Jaxpr) -> float:
    """FLOPs of a program's matrix products and convolutions, over all devices.

    XLA's own analysis of a whole program counts the body of a loop once, and what is split over
    devices for one of them; so it is only asked about single operations here. Every branch of a
    condition counts. Nothing else counts: it is no work for matrix units.
    """
    return sum(times * flops(operation) for operation, times, _ in operations(program))


def flops(operation: JaxprEqn) -> float:
    """FLOPs of a matrix product or a convolution, once; 0 for any other operation."""
    if operation.primitive.name not in ("dot_general", "conv_general_dilated"):
        return 0.0
    arrays: Any = [v.aval for v in operation.invars]
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]
    alone = jax.jit(partial(operation.primitive.bind, **operation.params))
    costs: Any = alone.lower(*shapes).cost_analysis()
    return costs["flops"]


def operations(
    program: Jaxpr, times: int = 1, scope: str = ""
) -> Iterator[tuple[JaxprEqn, int, str]]:
    """Every operation of a program, how often it runs over all devices, and the names of the
    modules that it was traced in.
    """
    for equation in program.eqns:
        name, params = equation.primitive.name, equation.params
        names = f"{scope}/{equation.source_info.name_stack}"
        yield equation, times, names
        for part in _programs_in(params):
            yield from operations(part, times * _repeats(name, params), names)


def _repeats(name: str, params: Mapping[str, Any]) -> int:
    """How often what is inside an operation runs."""
    if name == "scan":
        return params["length"]
    return params["mesh"].size if name == "shard_map" else 1


def _programs_in(params: Mapping[str, Any]) -> Iterator[Jaxpr]:
    for value in params.values():
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, Jaxpr):
                yield part


@contextmanager
def without_compilation_cache() -> Iterator[None]:
    """Whatever is compiled inside is compiled afresh, and not kept on disk."""
    settings: Any = jax.config
    before = settings.jax_enable_compilation_cache
    settings.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX looks at the setting once
    try:
        yield
    finally:
        settings.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def device_in_words(mesh: Mesh) -> str:
    """Kind and number of devices: 'cpu: AMD EPYC 7B13, 2 cores', 'NVIDIA H100, 4 devices'."""
    device = mesh.devices.flat[0]
    count = f"{mesh.size} device{'s' if mesh.size > 1 else ''}"
    if device.platform != "cpu":
        return f"{device.device_kind}, {count}"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    words = f"cpu: {names[0] if names else platform.processor()}, {os.cpu_count()} cores"
    return words if mesh.size == 1 else f"{words}, {count}"


def as_table(report: Report) -> str:
    """The report for people to read."""
    train, size = report["train"], report["image_size"]
    rows = [
        ("device", report["device"]),
        ("", f"jax {report['jax']}, python {report['python']}"),
        ("batch", f"{report['batch_size']} images of {size}x{size}, {report['dtype']}"),
        ("data", report["data"]),
        ("compilation", f"{report['compile_s']:,.1f} s"),
        ("training step", _shown(train, "step_ms")),
        ("encoding", _shown(report["encode"], "ms")),
        ("decoding", _shown(report["decode"], "ms")),
        ("operations", f"{report['flops_per_image'] / 1e9:,.3f} GFLOP per image and step"),
        ("reached", f"{report['achieved_flops'] / 1e9:,.1f} GFLOP/s"),
        ("matrix product", f"{report['matmul_flops'] / 1e9:,.1f} GFLOP/s"),
        ("share of it", f"{report['peak_share']:.1%}"),
        ("peak memory", f"{report['peak_memory_bytes'] / 2**20:,.1f} MiB on the fullest device"),
        ("wait for data", f"{report['data_wait']:.1%} of the time"),
    ]
    return "\n".join(f"{name:<16}{value}" for name, value in rows)


def _shown(part: Report, name: str) -> str:
    quartiles = f"{part[f'{name}_lower']:,.1f} .. {part[f'{name}_upper']:,.1f}"
    return f"{part[name]:,.1f} ms ({quartiles}), {part['images_per_s']:,.1f} images/s"
