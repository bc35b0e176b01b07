"""Training of every system by batch, precision and rematerialisation: speed, share of the device's
peak, memory.
"""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax

from avq.bench import program_memory
from benchmarks._common import Row, random_training
from benchmarks.accelerator.parts import Case, LeftOut, Shared, rounded
from benchmarks.accelerator.sizes import PRECISIONS, Sizes

HIGHER = 1.05  # a prediction of memory by the batch alone has to exceed the device's by so much


class Setting(NamedTuple):
    """What a row is of."""

    system: str
    batch: int
    precision: str
    remat: bool


def by_worth(sizes: Sizes) -> list[Setting]:
    """All settings: the first one, those that differ from it in one respect, in two, and so on; of
    as many, those of earlier values first, and of those another system, then another batch.
    """
    axes: tuple[Sequence[Any], ...]
    axes = tuple(sizes.systems), sizes.batches, sizes.precisions, (False, True)

    def worth(place: tuple[int, ...]) -> Any:
        return sum(i > 0 for i in place), sum(place), [-i for i in place]

    places = sorted(itertools.product(*(range(len(axis)) for axis in axes)), key=worth)
    return [Setting._make(axis[i] for axis, i in zip(axes, place, strict=True)) for place in places]


def cases(shared: Shared) -> Sequence[Case]:
    """A case for each setting. The first is the one that parts share: it is compiled already."""
    image_bytes: dict[tuple[Any, ...], float] = {}
    return [
        Case(
            setting._asdict(),
            partial(measure, shared, setting, image_bytes),
            compiles=setting != (*shared.first, False),
        )
        for setting in by_worth(shared.sizes)
    ]


def measure(shared: Shared, setting: Setting, image_bytes: dict[tuple[Any, ...], float]) -> Row:
    """Times the training step of a setting.

    Args:
        shared: of all parts.
        setting: to measure.
        image_bytes: memory by all of a setting but its batch, over that; gains this one's.

    Raises:
        LeftOut: for a batch that would need more memory than there is.
    """
    of_any_batch = setting._replace(batch=0)
    require_fits(setting.batch * image_bytes.get(of_any_batch, 0.0))
    with jax.default_matmul_precision(PRECISIONS[setting.precision][1]):
        if setting == (*shared.first, False):
            training = shared.training
        else:
            config = shared.config(*setting[:3], f"--config.model.remat={setting.remat}")
            training = random_training(config)
        report = training.measure(shared.sizes.runs)
    memory, peak = program_memory(training.compiled), shared.matmul_flops(setting.precision)
    image_bytes[of_any_batch] = memory / setting.batch
    return {
        "images_per_s": rounded(report["train"]["images_per_s"]),
        **{name: rounded(ms) for name, ms in report["train"].items() if name != "images_per_s"},
        "gflop_per_image": rounded(report["flops_per_image"] / 1e9),
        "achieved_tflops": rounded(report["achieved_flops"] / 1e12),
        "matmul_tflops": rounded(peak / 1e12),
        "peak_share": rounded(report["achieved_flops"] / peak),
        "memory_bytes": memory,
        "compile_s": rounded(report["compile_s"]),
    }


def require_fits(needed: float) -> None:
    """Refuses what would need more memory than the device lets JAX have.

    Raises:
        LeftOut: naming both.
    """
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit and needed > HIGHER * limit:
        raise LeftOut(f"needs about {needed / 2**30:.0f} GiB of {limit / 2**30:.0f} GiB")
