"""Restored pictures beside classical methods: noise, resolution, anomalies, holes.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.restore --data PATH --out FOLDER [--steps N] [--images N]
        [--prior RUN] [--study NAME ...] [--json FILE] [--picture FILE]

Trains runs of `ah_vqvae_plus:tiny` in the folder, unless they are there: on the images as they are
(`clean`), with noise of 25 levels (`noise`), shrunk two times (`low`). Measures what `avq restore`
makes of evenly spaced test images: PSNR in dB, mean over images, of rounded pixels; of a hole, of
its pixels alone. For anomalies, a square of a quarter of the side comes from another test image or
from a photograph of scikit-image; `auroc` is over the pixels of all images. The picture shows
photographs of scikit-image, by the same runs.

With a prior its autoencoder takes the place of `clean`, and anomalies and holes alone are studied.

Controls without a model: `local variance` for the maps, `bicubic, back-projected` for what
back-projection does by itself. `avq, of clean images` is the most that codes let a denoiser reach.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from skimage.restoration import denoise_nl_means, inpaint_biharmonic

from avq import cpu
from avq.apply.completion import Completion
from avq.apply.prior import Prior, load_prior
from avq.apply.restore.anomaly import Anomalies, usual_images
from avq.apply.restore.denoise import denoise
from avq.apply.restore.harmonic import HarmonicFill
from avq.apply.restore.inpaint import inpaint, inpaint_by_prior
from avq.apply.restore.upscale import back_projected, upscale
from avq.apply.tokenizer import Tokenizer, load
from avq.data.dataset import evenly, open_dataset
from avq.data.settings import Data
from avq.data.split import open_splits
from avq.data.views import centre_square, rescaled, with_noise
from avq.models.prior import Drawing
from avq.pixels import heat
from avq.settings import construct
from benchmarks._common import Row, make_parser, write_json

CONFIG = "configs/ah_vqvae_plus.py:tiny"
SIGMA, FACTOR = 25, 2
RUNS = {"clean": [], "noise": [f"data.noise={SIGMA}"], "low": [f"data.downscale={FACTOR}"]}
PHOTOGRAPHS = ("coffee", "chelsea", "rocket", "astronaut")
SHOWN, LARGER = 4, 2  # images of the picture, and by how much
Picture = UInt8[np.ndarray, "_h _w 3"]


@dataclass(frozen=True)
class Result:
    """What a study finds.

    Attributes:
        figures: by method.
        shown: rows of pictures of the same images, top down.
    """

    figures: Mapping[str, dict[str, float]]
    shown: Sequence[Sequence[Picture]]


@dataclass(frozen=True)
class Models:
    """What a study has to load from.

    Attributes:
        out: folder of the runs.
        prior: over the codes of an autoencoder that takes the place of `clean`.
    """

    out: Path
    prior: Prior | None = None

    def loaded(self, name: str) -> Tokenizer:
        """The model of a run."""
        if self.prior and name == "clean":
            return self.prior.tokenizer
        return load(self.out / name)


def train(out: Path, name: str, data: str, steps: int) -> None:
    """Trains, or resumes, a run of `RUNS`."""
    settings = [f"data.path={data}", f"train.steps={steps}", f"train.eval_every={steps // 2}"]
    flags = [f"--config.{setting}" for setting in (*settings, *RUNS[name])]
    command = [sys.executable, "-m", "avq.main", f"--config={CONFIG}", *flags]
    subprocess.run([*command, f"--workdir={out / name}"], check=True)


def squares(tokenizer: Tokenizer, wanted: int) -> list[Picture]:
    """Evenly spaced test images of a model's run."""
    trained = tokenizer.trained
    data = construct(Data, trained.config["data"])
    images = open_dataset(data, trained.dataset).test
    return [
        centre_square(images.nearest(row), data.image_size) for row in evenly(len(images), wanted)
    ]


def photographs(side: int, wanted: int) -> list[Picture]:
    """Evenly spaced test squares of the embedded photographs."""
    source = open_splits(Data(path="photographs", image_size=side)).test
    return [source[row] for row in evenly(len(source), wanted)]


def psnr(made: Any, image: Picture, where: Any = slice(None)) -> float:
    """PSNR in dB of values of 255 levels, rounded and clipped; of some pixels alone."""
    errors = np.round(np.clip(made, 0, 255)) - image.astype(float)
    return float(10 * np.log10(255**2 / np.square(errors[where]).mean()))


def ratios(
    made: Mapping[str, Sequence[Any]], images: Sequence[Picture], holes: Sequence[Any] = ()
) -> dict[str, dict[str, float]]:
    """Mean PSNR over images by method; in the holes, where there are some."""
    places = holes or [slice(None)] * len(images)
    return {
        method: {"psnr": float(np.mean(list(map(psnr, pictures, images, places))))}
        for method, pictures in made.items()
    }


def auroc(scores: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"]) -> float:
    """Area under the ROC curve: how often a positive's score is above another one's."""
    n = int(positive.sum())
    ranks = rankdata(scores)[positive].sum()
    return float((ranks - n * (n + 1) / 2) / (n * (len(positive) - n)))


def random_box(picture: Picture, side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """A square of so many pixels a side at a random place."""
    top, left = (int(rng.integers(length - side + 1)) for length in picture.shape[:2])
    return slice(top, top + side), slice(left, left + side)


def local_variance(image: Picture, width: int) -> Float[np.ndarray, "h w"]:
    """Variance of the grey values around each pixel, averaged by a Gaussian."""
    grey = image.mean(-1)
    variance: Float[np.ndarray, "h w"]
    variance = gaussian_filter(grey**2, width) - gaussian_filter(grey, width) ** 2
    return variance


def denoising(models: Models, images: Sequence[Picture]) -> Result:
    """Noise of 25 levels; BM3D and non-local means know how much."""
    import bm3d  # the other studies do not need it

    tokenizer = models.loaded("noise")
    noisy = [with_noise(each, SIGMA, np.random.default_rng(i)) for i, each in enumerate(images)]
    sigma = SIGMA / 255
    nearby: Any = {"patch_size": 5, "patch_distance": 6, "fast_mode": False, "channel_axis": -1}
    made: dict[str, list[Any]] = {
        "noisy": noisy,
        "Gaussian filter": [gaussian_filter(each.astype(float), (0.8, 0.8, 0)) for each in noisy],
        "non-local means": [
            255 * denoise_nl_means(each / 255, h=0.8 * sigma, sigma=sigma, **nearby)
            for each in noisy
        ],
        "BM3D": [255 * bm3d.bm3d_rgb(each / 255, sigma) for each in noisy],
        "avq": list(denoise(tokenizer, noisy)),
        "avq, of clean images": list(models.loaded("clean").reconstruct_each(images)),
    }
    return Result(ratios(made, images), [noisy, made["avq"], images])


def enlarging(models: Models, images: Sequence[Picture]) -> Result:
    """Images of half the side."""
    tokenizer = models.loaded("low")
    side = tokenizer.image_size
    small = [rescaled(each, side // FACTOR, side // FACTOR) for each in images]
    bicubic = [rescaled(each, side, side) for each in small]
    made = {
        "bicubic": bicubic,
        "bicubic, back-projected": list(map(back_projected, bicubic, small)),
        "avq, not back-projected": list(tokenizer.reconstruct_each(bicubic)),
        "avq": list(upscale(tokenizer, small)),
    }
    return Result(ratios(made, images), [bicubic, made["avq"], images])


def anomalies(models: Models, images: Sequence[Picture]) -> Result:
    """A square of a quarter of the side comes from elsewhere."""
    tokenizer = models.loaded("clean")
    finder = Anomalies(tokenizer, usual_images(tokenizer), models.prior)
    rng = np.random.default_rng(0)
    coloured = [centre_square(getattr(skimage.data, name)(), 128) for name in PHOTOGRAPHS]
    origins = {"photograph": coloured, "image": [*images[1:], images[0]]}
    figures: dict[str, dict[str, float]] = {}
    for origin, sources in origins.items():
        pasted, masks = [image.copy() for image in images], []
        for number, image in enumerate(pasted):
            source, side = sources[number % len(sources)], len(image) // 4
            box = random_box(image, side, rng)
            image[box] = source[random_box(source, side, rng)]
            masks.append(np.zeros(image.shape[:2], bool))
            masks[-1][box] = True
        maps = list(finder.maps(pasted))
        found = {
            f"avq, {name}": [getattr(each, name) for each in maps] for name in maps[0].scores()
        }
        found["local variance"] = [local_variance(each, tokenizer.cells[-1]) for each in pasted]
        for method, values in found.items():
            area = auroc(np.stack(values).ravel(), np.stack(masks).ravel())
            figures.setdefault(method, {})[f"auroc_{origin}"] = area
    return Result(figures, [pasted, [heat(each.both / 4) for each in maps]])


def inpainting(models: Models, images: Sequence[Picture]) -> Result:
    """A square of a quarter of the side is missing."""
    tokenizer, rng = models.loaded("clean"), np.random.default_rng(0)
    holes = [np.zeros(image.shape[:2], bool) for image in images]
    for image, hole in zip(images, holes, strict=True):
        hole[random_box(image, len(image) // 4, rng)] = True
    pairs = list(zip(images, holes, strict=True))
    made: dict[str, list[Any]] = {
        "harmonic fill": [HarmonicFill(hole)(image.astype(float)) for image, hole in pairs],
        "biharmonic fill": [
            255 * inpaint_biharmonic(image / 255, hole, channel_axis=-1) for image, hole in pairs
        ],
        "avq": [inpaint(tokenizer, image, hole) for image, hole in pairs],
    }
    if prior := models.prior:
        for temperature in (1, 0):
            completion = Completion(prior, Drawing(temperature=temperature))
            made[f"avq, prior, temperature {temperature}"] = [
                inpaint_by_prior(completion, image, hole) for image, hole in pairs
            ]
    given = [np.where(hole[..., None], np.uint8(255), image) for image, hole in pairs]
    return Result(ratios(made, images, holes), [given, *list(made.values())[2:], images])


# Each with the runs that it needs; images are of the first one's data.
STUDIES: dict[str, tuple[Callable[[Models, Sequence[Picture]], Result], tuple[str, ...]]] = {
    "denoise": (denoising, ("noise", "clean")),
    "upscale": (enlarging, ("low",)),
    "anomaly": (anomalies, ("clean",)),
    "inpaint": (inpainting, ("clean",)),
}


def sheet(results: Sequence[Result]) -> Picture:
    """Pictures of a study in columns, the studies side by side."""
    height = max(len(result.shown) for result in results)
    columns = []
    for result in results:
        rows = [np.concatenate(list(row), axis=1) for row in result.shown]
        rows += [np.full_like(rows[0], 255)] * (height - len(rows))
        columns += [np.concatenate(rows), np.full((height * len(rows[0]), 8, 3), 255, np.uint8)]
    whole = np.concatenate(columns[:-1], axis=1)
    return whole.repeat(LARGER, axis=0).repeat(LARGER, axis=1)


def main() -> None:
    """Trains what is not done, and prints the figures of each method."""
    parser = make_parser(__doc__, studies=list(STUDIES))
    parser.add_argument("--data", default="photographs", metavar="PATH")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--steps", type=int, default=600, metavar="N", help="of training a run")
    parser.add_argument("--prior", type=Path, metavar="RUN", help="over the codes of another run")
    parser.add_argument("--images", type=int, default=100, metavar="N", help="to measure on")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write pictures here")
    arguments = parser.parse_args()
    cpu.keep_memory()
    models = Models(arguments.out, arguments.prior and load_prior(arguments.prior))
    if models.prior:
        arguments.study = [name for name in arguments.study if STUDIES[name][1] == ("clean",)]
    names = dict.fromkeys(name for study in arguments.study for name in STUDIES[study][1])
    for name in () if models.prior else names:
        train(arguments.out, name, arguments.data, arguments.steps)
    rows: list[Row] = []
    for study in arguments.study:
        measure, (run, *_) = STUDIES[study]
        images = squares(models.loaded(run), arguments.images)
        for method, figures in measure(models, images).figures.items():
            rows.append({"study": study, "method": method, **figures})
            values = (f"{name} {value:8.3f}" for name, value in figures.items())
            print(f"{study:<10}{method:<26}", *values, flush=True)
        write_json(arguments.json, {"images": arguments.images, "rows": rows})
    if arguments.picture:
        shown = photographs(len(images[0]), SHOWN)
        results = [STUDIES[study][0](models, shown) for study in arguments.study]
        Image.fromarray(sheet(results)).save(arguments.picture, optimize=True)


if __name__ == "__main__":
    main()
