"""Model card: Markdown with the figures as `model-index` metadata, as model hubs read them."""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import yaml

from avq.report.report import Report
from avq.report.text import duration, shown
from avq.report.training import training_seconds

# Keys that hubs show, with their names.
METRICS = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "mae": "MAE, pixels in [-1, 1]",
    "fid": "FID",
    "kid": "KID",
    "lpips_vgg": "LPIPS (VGG16)",
    "lpips_alex": "LPIPS (AlexNet)",
    "bits_per_pixel": "bits per pixel",
}


def card(report: Report) -> str:
    """Renders a model card, a README.md for the model's folder.

    Names of folders are shortened to their last part: a card may be published.
    """
    front = yaml.safe_dump(_metadata(report), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n".join(_lines(report)) + "\n"


def _metadata(report: Report) -> dict[str, Any]:
    values = report.values
    data = PurePath(str(values["data"])).name
    result = {
        "task": {"type": "image-to-image", "name": "Image reconstruction"},
        "dataset": {"type": data, "name": data, "split": values["split"]},
        "metrics": [
            {"type": key, "name": name, "value": values[key]}
            for key, name in METRICS.items()
            if isinstance(values.get(key), int | float)
        ],
    }
    return {
        "library_name": "avq",
        "tags": ["jax", "flax", "vq-vae", "image-tokenizer"],
        "model-index": [{"name": _name(report), "results": [result]}],
    }


def _name(report: Report) -> str:
    return PurePath(report.title).name or report.title


def _lines(report: Report) -> Iterator[str]:
    values, model = report.values, report.config["model"]
    size, n = values["image_size"], values["n"]
    yield f"# {_name(report)}\n"
    yield (
        f"Discrete image autoencoder of {size}x{size} pixels with {model['levels']} "
        f"{'level' if model['levels'] == 1 else 'levels'} of codes, "
        f"{values['bits_per_pixel']:.4g} bits a pixel before entropy coding.\n"
    )
    yield "```python\nimport avq\n"
    yield 'model = avq.load("FOLDER")'
    yield "codes = model.encode(images)  # uint8 [B, H, W, 3]"
    yield "images = model.decode(codes)\n```\n"
    yield "## Evaluation\n"
    yield (
        f"{n:,} {values['split']} images of {PurePath(str(values['data'])).name}: "
        f"{values['crop']}, {size}x{size} pixels; trained on {shown(values['trained_on'])} of "
        "them. Intervals are of 95 %, over images.\n"
    )
    yield "| measure | value | interval | meaning |\n| --- | --- | --- | --- |"
    for key, value in values.items():
        if isinstance(value, int | float | list):
            ends = values["interval"].get(key)
            between = f"{shown(ends[0])} to {shown(ends[1])}" if ends else ""
            yield f"| {key} | {shown(value)} | {between} | {report.meanings.get(key, '')} |"
    yield "\n## Training\n"
    data = report.config["data"]
    seconds = training_seconds(report.records, data["batch_size"])
    cost = f", {duration(seconds)} of training steps" if seconds else ""
    yield (
        f"{values['step']:,} steps of {data['batch_size']} images of "
        f"{PurePath(str(data['path'])).name}{cost}."
    )
    versions = ", ".join(f"{name} {text}" for name, text in report.environment.items())
    yield f"\nMeasured with {versions}."
