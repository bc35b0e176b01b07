"""Images drawn from a prior, as files of a folder."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int, UInt8
from PIL import Image

from avq import cpu, parallel
from avq.apply.completion import drawing
from avq.apply.pictures import require_folder, tiled, write_png
from avq.apply.prior import Prior
from avq.apply.tokenizer import Codes, Tokenizer
from avq.data.channels import from_pil, to_pil
from avq.errors import InputError
from avq.json_files import read_json, replaced, write_json
from avq.models.prior import Drawing, PriorModule
from avq.models.prior.places import UNKNOWN

# Images that a device draws at a time. Images are grouped by their number, and every group is drawn
# whole by the same program, so that an image does not depend, not even by rounding, on how many
# others are asked for or on how many devices there are.
GROUP = 16
SETTINGS, GRID = "samples.json", "grid.png"
SHOWN = 64  # images of the grid


class Sampler:
    """Draws images in groups of `GROUP`, one group on each device at a time; compiled once.

    Args:
        module: the prior.
        tokenizer: the autoencoder.
        how: to draw.
        mesh: devices.
    """

    def __init__(self, module: PriorModule, tokenizer: Tokenizer, how: Drawing, mesh: Mesh) -> None:
        self._tokenizer, self._mesh = tokenizer, mesh
        self._grids = module.grids
        options = cpu.compiler_options("inference")
        self._draw = parallel.map_rows(drawing(module, how), mesh, options)

    def codes(
        self, variables: Any, groups: Sequence[int], seed: int, labels: Int[np.ndarray, "g"]
    ) -> list[Codes]:
        """Codes of some groups, as many at most as there are devices.

        Args:
            variables: of the prior.
            groups: their numbers; group g holds the images from `g * GROUP` on.
            seed: of all images.
            labels: of each image of a group.
        """
        devices = self._mesh.size
        padded = [*groups, *[groups[-1]] * (devices - len(groups))]
        numbers = np.concatenate([np.arange(g * GROUP, (g + 1) * GROUP) for g in padded])
        rows = {
            "number": numbers.astype(np.uint32),
            "seed": np.full(len(numbers), seed, np.uint32),
            "label": np.tile(labels, devices).astype(np.int32),
            "start": tuple(
                np.full((len(numbers), *grid), UNKNOWN, np.int32) for grid in self._grids
            ),
        }
        drawn = jax.device_get(self._draw(variables, parallel.shard_batch(rows, self._mesh)))
        parts = (slice(place * GROUP, (place + 1) * GROUP) for place in range(len(groups)))
        return [tuple(level[part] for level in drawn) for part in parts]

    def groups(
        self, variables: Any, groups: Sequence[int], seed: int, labels: Int[np.ndarray, "g"]
    ) -> list[UInt8[np.ndarray, "g s s c"]]:
        """Images of `codes`."""
        return [
            self._tokenizer.decode(codes) for codes in self.codes(variables, groups, seed, labels)
        ]


def sample(
    prior: Prior,
    out: Path,
    count: int,
    *,
    how: Drawing = Drawing(),  # noqa: B008, frozen
    seed: int = 0,
    label: str | None = None,
    mesh: Mesh | None = None,
    on_total: Callable[[int], object] = lambda total: None,
    on_images: Callable[[int], object] = lambda done: None,
) -> None:
    """Draws images into a folder, as `00000.png` and so on and, of the first 64, `grid.png`; or
    continues an interrupted call.

    Args:
        prior: to draw from.
        out: folder, created if missing.
        count: number of images. A larger one later adds to them.
        how: to draw.
        seed: of the images.
        label: name of their class; None draws classes in turns where the prior has some.
        mesh: devices that share the groups; None for all.
        on_total: called with the number of images.
        on_images: called with the number of images that are there since the call before.

    Raises:
        InputError: for a folder that holds images drawn otherwise, or cannot be written; an unknown
            class, and guidance of a prior without classes.
    """
    labels = _labels(prior, label)
    if how.guidance != 1 and not prior.classes:
        raise InputError("guidance is by the class, and the prior has no classes.")
    require_folder(out)
    _require_same(out, prior, how, seed, label)
    mesh = mesh or parallel.make_mesh()
    on_total(count)
    sampler = Sampler(prior.module, prior.tokenizer, how, mesh)
    missing = []
    for group in range(-(-count // GROUP)):
        numbers = range(group * GROUP, min(count, (group + 1) * GROUP))
        if all((out / _name(number)).exists() for number in numbers):
            on_images(len(numbers))
        else:
            missing.append(group)
    for start in range(0, len(missing), mesh.size):
        groups = missing[start : start + mesh.size]
        for group, images in zip(
            groups, sampler.groups(prior.variables, groups, seed, labels), strict=True
        ):
            numbers = range(group * GROUP, min(count, (group + 1) * GROUP))
            for number, pixels in zip(numbers, images, strict=False):
                write_png(out, _name(number), pixels)
            on_images(len(numbers))
    _write_grid(out, min(count, SHOWN), prior.tokenizer.channels)


def _name(number: int) -> str:
    return f"{number:05d}.png"


def _labels(prior: Prior, label: str | None) -> Int[np.ndarray, "g"]:
    """Labels of the images of a group."""
    if label is None and prior.classes:
        return np.arange(GROUP) % len(prior.classes)
    return np.full(GROUP, prior.label(label))


def _require_same(out: Path, prior: Prior, how: Drawing, seed: int, label: str | None) -> None:
    """Refuses a folder with images that were drawn otherwise; else notes how they are drawn."""
    settings = {
        "prior": prior.digest,
        "tokenizer": prior.tokenizer.digest,
        "seed": seed,
        "label": label,
        **asdict(how),
    }
    before = read_json(out / SETTINGS)
    if before is None and any(out.glob("*.png")):
        raise InputError(f"{str(out)!r} holds other pictures. Give another folder.")
    changed = [name for name, value in settings.items() if before and before.get(name) != value]
    if changed:
        raise InputError(
            f"{str(out)!r} holds images drawn with another {' and '.join(changed)}. Give the same, "
            "or another folder."
        )
    write_json(out / SETTINGS, settings)


def _write_grid(out: Path, shown: int, channels: int) -> None:
    files = (Image.open(out / _name(number)) for number in range(shown))
    images = [from_pil(file, channels) for file in files]
    with replaced(out / GRID) as new:
        to_pil(tiled(images, columns=8)).save(new, "png")
