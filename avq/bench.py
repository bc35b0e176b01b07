"""Cost of a config on this machine: time, speed, operations, memory."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from avq import cpu, parallel
from avq.data.dataset import ImageSet
from avq.data.pipeline import BATCHES_AHEAD, prefetch, train_batches
from avq.data.settings import Data
from avq.data.split import open_splits
from avq.data.views import Degradation
from avq.models.vqvae import VQVAE
from avq.pixels import to_float
from avq.program import matrix_flops
from avq.settings import construct
from avq.tasks import make_task
from avq.train.interval import Interval
from avq.train.loop import compile_step, optimizers_of, require_runnable
from avq.train.state import init_state
from avq.train.step import StepMetrics
from avq.train.task import Batch, Task

Report = dict[str, Any]


@dataclass(frozen=True)
class Times:
    """Milliseconds of repeated calls: median, lower and upper quartile."""

    median: float
    lower: float
    upper: float


def time_calls(call: Callable[[], Any], *, runs: int = 10, warm_up: int = 2) -> Times:
    """Times calls one by one, each until its result is ready, after `warm_up` untimed ones."""
    for _ in range(warm_up):
        jax.block_until_ready(call())
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(1e3 * (time.perf_counter() - began))
    lower, median, upper = statistics.quantiles(times, n=4, method="inclusive")
    return Times(median, lower, upper)


def bench(
    config: Any, runs: int = 10, on_stage: Callable[[str], object] = lambda stage: None
) -> Report:
    """Measures training, encoding and decoding of a config; keys are those of `avq bench --json`.

    A config without data is measured on the embedded photographs.

    Args:
        config: as for training; its devices share the batch.
        runs: timed calls of each kind, at least 2.
        on_stage: called with the name of every stage as it begins.

    Raises:
        InputError: for what training refuses.
    """
    task, mesh = runnable_task(config)
    path = config.data.path or "photographs"
    data = construct(Data, config.data.to_dict() | {"path": path})
    degradation = construct(Degradation, config.data.to_dict())
    images = ImageSet(open_splits(data).train, channels=data.channels)
    batches = train_batches(images, data, seed=task.seed, degradation=degradation)
    on_stage("compiling the training step")
    training = Training(task, mesh, batches[0])
    on_stage("timing training")
    report = environment(config, mesh) | {"data": path} | training.measure(runs)
    on_stage("stepping through the data")
    report["data_wait"] = data_wait(training, batches, runs)
    report |= _inference_speeds(training, runs, on_stage)
    on_stage("timing a matrix product")
    report["matmul_flops"] = matmul_flops(mesh, config.model.dtype, runs)
    report["peak_share"] = report["achieved_flops"] / report["matmul_flops"]
    return report


def runnable_task(config: Any) -> tuple[Task, Mesh]:
    """The task of a config, and the devices that it runs on.

    Raises:
        InputError: for what training refuses.
    """
    task = make_task(config)
    return task, require_runnable(task, optimizers_of(task))


def environment(config: Any, mesh: Mesh) -> Report:
    """Machine, versions and sizes, without which the numbers mean nothing."""
    return {
        "device": parallel.device_in_words(mesh),
        "devices": mesh.size,
        "instructions": list(cpu.instructions()),
        "options": {
            use: cpu.compiler_options(use, config.model.dtype)
            for use in get_args(cpu.Use)
            if use != "once"
        },
        "jax": jax.__version__,
        "python": platform.python_version(),
        "batch_size": config.data.batch_size,
        "image_size": config.data.image_size,
        "channels": config.data.channels,
        "dtype": config.model.dtype,
    }


def trace_step(task: Task, mesh: Mesh, batch: Mapping[str, np.ndarray]) -> jax.stages.Traced:
    """The traced training step of a task. No training state is allocated.

    Args:
        task: what is trained.
        mesh: the devices that share a batch.
        batch: gives shapes and types of a global batch.
    """
    optimizers = optimizers_of(task)
    state = parallel.shapes(partial(init_state, task, optimizers), mesh, task.parallel.fsdp)
    everywhere, split = parallel.replicated(mesh), NamedSharding(mesh, P(parallel.AXIS))
    step = compile_step(task, optimizers, mesh)
    traced: jax.stages.Traced = step.trace(
        state, _shapes(task.frozen(), everywhere), _shapes(batch, split)
    )
    return traced


def _shapes(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


class Training:
    """A task's training step, compiled for its devices, and the state that it updates.

    Attributes:
        task: what is trained.
        mesh: the devices.
        batch: on the devices; `measure` trains on it again and again.
        state: after the steps so far.
        frozen: see `avq.train.task.Task.frozen`.
        compiled: XLA's program of the step.
        compile_s: seconds to trace and compile the step, without the compilation cache.
        flops_per_image: see `avq.program.matrix_flops`; of all players.
    """

    def __init__(self, task: Task, mesh: Mesh, batch: Mapping[str, np.ndarray]) -> None:
        self.task, self.mesh = task, mesh
        self.batch = parallel.shard_batch(batch, mesh)
        init = partial(init_state, task, optimizers_of(task))
        self.state = parallel.init_placed(init, mesh, task.parallel.fsdp)
        self.frozen = jax.device_put(dict(task.frozen()), parallel.replicated(mesh))
        with cpu.without_compilation_cache():
            began = time.perf_counter()
            traced = trace_step(task, mesh, batch)
            self.compiled = cpu.compiled(traced)
            self.compile_s = time.perf_counter() - began
        self.flops_per_image = matrix_flops(traced.jaxpr.jaxpr) / task.batch_size

    def step(self, batch: Batch | None = None) -> StepMetrics:
        """Trains one step, on `self.batch` where no other is given."""
        batch = self.batch if batch is None else batch
        metrics: StepMetrics
        self.state, metrics = self.compiled(self.state, self.frozen, batch)
        return metrics

    def measure(self, runs: int) -> Report:
        """Time, operations and memory of the step."""
        train = speed(time_calls(self.step, runs=runs), self.task.batch_size, "step_ms")
        return {
            "compile_s": self.compile_s,
            "train": train,
            "flops_per_image": self.flops_per_image,
            "achieved_flops": self.flops_per_image * train["images_per_s"],
            "peak_memory_bytes": self.peak_memory(),
        }

    def peak_memory(self) -> int:
        """Peak bytes on the fullest device: since the process began where the backend keeps count,
        otherwise what the compiled step asks for.
        """
        counts = [device.memory_stats() or {} for device in self.mesh.devices.flat]
        peaks = [count["peak_bytes_in_use"] for count in counts if "peak_bytes_in_use" in count]
        return int(max(peaks)) if peaks else program_memory(self.compiled)


def program_memory(compiled: jax.stages.Compiled) -> int:
    """Bytes on a device that a program asks for: arguments, results and what it computes between.

    Unlike a device's count of its peak, they are those of this program alone.
    """
    needs: Any = compiled.memory_analysis()
    kept = needs.argument_size_in_bytes + needs.output_size_in_bytes
    return int(kept + needs.temp_size_in_bytes - needs.alias_size_in_bytes)


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

    Batches that were prefetched before the first step do not count.
    """
    stream, interval = prefetch(batches, 0), Interval(0)
    try:
        for done in range(BATCHES_AHEAD + steps):
            if done == BATCHES_AHEAD:
                interval.restart()
            with interval.waiting():
                batch = next(stream)
            interval.add(training.step(parallel.shard_batch(batch, training.mesh)))
        return float(interval.summary(training.task.batch_size)["train/data_wait"])
    finally:
        stream.close()


def _inference_speeds(training: Training, runs: int, on_stage: Callable[[str], object]) -> Report:
    """Speed of encoding and decoding, with the averaged parameters."""
    task: Any = training.task
    model, size = task.model, task.batch_size
    variables = training.state.averaged_variables(task.averaged)
    split = NamedSharding(training.mesh, P(parallel.AXIS))
    options = cpu.compiler_options("inference")
    compiled = partial(jax.jit, out_shardings=split, compiler_options=options)
    encode = compiled(partial(model.apply, method=VQVAE.encode))
    decode = compiled(partial(model.apply, method=VQVAE.decode))
    pixels = to_float(training.batch["image"])
    on_stage("timing encoding")
    encoding = time_calls(lambda: encode(variables, pixels), runs=runs)
    codes = encode(variables, pixels)
    on_stage("timing decoding")
    decoding = time_calls(lambda: decode(variables, codes), runs=runs)
    return {"encode": speed(encoding, size), "decode": speed(decoding, size)}


def matmul_flops(mesh: Mesh, dtype: str, runs: int) -> float:
    """FLOP/s of a large square matrix product on each device: the practical peak."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    numbers = np.random.default_rng(0).standard_normal((mesh.size * side, side), np.float32)
    rows = parallel.shard_batch(numbers.astype(jnp.dtype(dtype)), mesh)
    part = P(parallel.AXIS)
    product = jax.jit(jax.shard_map(lambda a: a @ a, mesh=mesh, in_specs=part, out_specs=part))
    seconds = time_calls(lambda: product(rows), runs=runs).median / 1e3
    return mesh.size * 2 * side**3 / seconds


def as_table(report: Report) -> str:
    """The report as text."""
    train, size = report["train"], report["image_size"]
    rows = [
        ("device", report["device"]),
        ("", f"jax {report['jax']}, python {report['python']}"),
        ("instructions", _instructions(report["instructions"])),
        *((f"{use} by", _path(options)) for use, options in report["options"].items()),
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


def _instructions(names: Sequence[str]) -> str:
    missing = [name for name in cpu.VECTOR_INSTRUCTIONS if name not in names]
    return ", ".join(names) + (f"; no {', '.join(missing)}" if missing else "")


def _path(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items()) or "XLA's defaults"


def _shown(part: Report, name: str) -> str:
    quartiles = f"{part[f'{name}_lower']:,.1f} .. {part[f'{name}_upper']:,.1f}"
    return f"{part[name]:,.1f} ms ({quartiles}), {part['images_per_s']:,.1f} images/s"
