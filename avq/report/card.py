"""Model card: Markdown with the figures as `model-index` metadata, as model hubs read them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

from avq.data.channels import MODES
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

# Section of a model with a codec.
COMPRESSION = """## Compressed files

```
avq compress photo.jpg --model FOLDER
avq decompress photo.avq --model FOLDER
```
"""


def card(report: Report, picture: str = "", sections: Sequence[str] = ()) -> str:
    """Renders a model card, a README.md for the model's folder.

    Names of folders are shortened to their last part: a card may be published.

    Args:
        report: of the model.
        picture: file beside the card with images above their reconstructions; empty for none.
        sections: more of the card, in Markdown.
    """
    return _rendered(_metadata(report), _lines(report, picture, sections))


def plain_card(
    title: str,
    config: Mapping[str, Any],
    step: int,
    bits_per_pixel: float,
    picture: str = "",
    sections: Sequence[str] = (),
) -> str:
    """Renders the card of a model that was not evaluated.

    Args:
        title: name of the run.
        config: of the run.
        step: of the checkpoint.
        bits_per_pixel: of its codes.
        picture, sections: as for `card`.
    """
    size = config["data"]["image_size"]
    lines = _introduction(_last(title), config, size, bits_per_pixel, picture)
    trained = f"## Training\n\n{step:,} steps. This model has not been evaluated."
    return _rendered(_about(), (*lines, *sections, trained))


def _rendered(front: Mapping[str, Any], lines: Iterable[str]) -> str:
    text = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n\n" + "\n".join(lines) + "\n"


def _about() -> dict[str, Any]:
    return {"library_name": "avq", "tags": ["jax", "flax", "vq-vae", "image-tokenizer"]}


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
    return _about() | {"model-index": [{"name": _last(report.title), "results": [result]}]}


def _last(path: str) -> str:
    return PurePath(path).name or path


def _introduction(
    name: str, config: Mapping[str, Any], size: int, bits_per_pixel: float, picture: str
) -> Iterator[str]:
    model, channels = config["model"], config["data"]["channels"]
    yield f"# {name}\n"
    yield (
        f"Discrete autoencoder of {MODES[channels]} images of {size}x{size} pixels with "
        f"{model['levels']} "
        f"{'level' if model['levels'] == 1 else 'levels'} of codes, "
        f"{bits_per_pixel:.4g} bits a pixel before entropy coding.\n"
    )
    if picture:
        yield f"![images above their reconstructions]({picture})\n"
    yield "```python\nimport avq\n"
    yield 'model = avq.load("FOLDER")'
    yield f"codes = model.encode(images)  # uint8 [B, H, W, {channels}]"
    yield "images = model.decode(codes)\n```\n"


def _lines(report: Report, picture: str, sections: Sequence[str]) -> Iterator[str]:
    values, data = report.values, report.config["data"]
    size, n = values["image_size"], values["n"]
    bits = values["bits_per_pixel"]
    yield from _introduction(_last(report.title), report.config, size, bits, picture)
    yield from sections
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
    seconds = training_seconds(report.records, data["batch_size"])
    cost = f", {duration(seconds)} of training steps" if seconds else ""
    path = _last(str(data["path"]))
    of = f" of {path}" if path else ""
    yield f"{values['step']:,} steps of {data['batch_size']} images{of}{cost}."
    if report.environment:
        versions = ", ".join(f"{name} {text}" for name, text in report.environment.items())
        yield f"\nMeasured with {versions}."
