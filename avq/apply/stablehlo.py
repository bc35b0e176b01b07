"""Encoder and decoder as StableHLO programs, which JAX runs without avq.

Their weights are in them. The batch may have any size; images are squares of one, since attention
over the pixels of an image is compiled for their number.
"""

import importlib.util
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import export

from avq.errors import InputError
from avq.models.vqvae import VQVAE
from avq.pixels import to_float, to_uint8
from avq.trained import TrainedModel, digest

ENCODER, DECODER, HEADER = "encoder.stablehlo", "decoder.stablehlo", "stablehlo.json"
PROGRAMS = (ENCODER, DECODER, HEADER)  # files
PLATFORMS = ("cpu", "cuda", "tpu")
CHECKED = 4  # images
# Section of the model card; a test runs it.
LOADER = """## Without avq

`encoder.stablehlo` and `decoder.stablehlo` need `pip install jax flatbuffers` alone. They are for
squares of {size} pixels, on {platforms}. JAX {jax} wrote them, and JAX reads such files for some
months only (those of an older version, never of a newer one): keep the weights.

```python
from pathlib import Path

import numpy as np
from jax import export

FOLDER = Path("FOLDER")


def program(name):
    return export.deserialize(bytearray((FOLDER / name).read_bytes())).call


encode, decode = program("encoder.stablehlo"), program("decoder.stablehlo")
images = np.zeros((2, {size}, {size}, {channels}), np.uint8)
codes = encode(images)  # int32 [b, h, w], finest level first
images = np.asarray(decode(*codes))  # uint8 [b, {size}, {size}, {channels}]
```
"""


def require_flatbuffers() -> None:
    """Refuses to begin where JAX could not write the programs at the end."""
    if importlib.util.find_spec("flatbuffers") is None:
        raise InputError("--stablehlo needs flatbuffers: pip install 'avq[stablehlo]'.")


def programs(trained: TrainedModel, size: int) -> dict[str, bytes]:
    """Files of a model's programs, by name.

    Args:
        trained: the model.
        size: side of the images, pixels.

    Raises:
        InputError: for a size that is no multiple of the model's stride.
    """
    if size % (stride := trained.model.stride()):
        raise InputError(f"{size} pixels are no multiple of the model's stride, {stride}.")
    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, size, size, trained.model.channels), np.uint8)
    encoder = export.export(_encoder(trained), platforms=PLATFORMS)(images)
    codes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in encoder.out_avals]
    decoder = export.export(_decoder(trained), platforms=PLATFORMS)(*codes)
    about = {
        "jax": jax.__version__,
        "calling_convention": encoder.calling_convention_version,
        "platforms": PLATFORMS,
        "model": digest(trained.model, trained.variables),
        ENCODER: _signature(encoder),
        DECODER: _signature(decoder),
    }
    header = json.dumps(about, indent=2) + "\n"
    return {
        ENCODER: bytes(encoder.serialize()),
        DECODER: bytes(decoder.serialize()),
        HEADER: header.encode(),
    }


def section(size: int, channels: int) -> str:
    """Section of a model card that says how to read the programs."""
    return (
        LOADER.replace("{size}", str(size))
        .replace("{channels}", str(channels))
        .replace("{jax}", jax.__version__)
        .replace("{platforms}", ", ".join(PLATFORMS))
    )


def differences(files: Mapping[str, bytes], trained: TrainedModel, size: int) -> tuple[int, int]:
    """How far programs are from the model on this machine: codes that differ, and the largest
    difference of a pixel that is decoded from the same codes, for images of noise and gradients.
    """
    rng = np.random.default_rng(0)
    channels = trained.model.channels
    slopes = rng.integers(0, 256, (CHECKED, 2, 2, channels)).astype(np.float32)
    smooth = jax.image.resize(slopes, (CHECKED, size, size, channels), "linear")
    noise = rng.normal(0, 20, smooth.shape)
    images = np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)
    encode, decode = (_read(files[name]) for name in (ENCODER, DECODER))
    codes = _encoder(trained)(images)
    others = encode(images)
    wrong = sum(int((a != b).sum()) for a, b in zip(codes, others, strict=True))
    pixels, again = (np.asarray(f(*codes)).astype(np.int32) for f in (_decoder(trained), decode))
    return wrong, int(np.abs(pixels - again).max())


def _parts(trained: TrainedModel) -> tuple[Any, Any]:
    """Module, and variables as JAX arrays: a traced index needs them."""
    return trained.model, jax.device_put(trained.variables)


def _encoder(trained: TrainedModel) -> Any:
    """`uint8 [b, h, w, c]` to grids of codes."""
    model, variables = _parts(trained)

    def encode(image: jax.Array) -> Any:
        codes = model.apply(variables, to_float(image)[None], method=VQVAE.encode)
        return tuple(grid[0] for grid in codes)

    return jax.jit(jax.vmap(encode))  # image by image: its code branches on concrete shapes alone


def _decoder(trained: TrainedModel) -> Any:
    """Grids of codes to `uint8 [b, h, w, c]`."""
    model, variables = _parts(trained)

    def decode(*codes: jax.Array) -> Any:
        grids = [grid[None] for grid in codes]
        return to_uint8(model.apply(variables, grids, method=VQVAE.decode)[0])

    return jax.jit(jax.vmap(decode))


def _read(file: bytes) -> Any:
    return export.deserialize(bytearray(file)).call


def _signature(program: export.Exported) -> dict[str, list[str]]:
    """Types and shapes of arguments and results in words."""
    return {
        "arguments": [aval.str_short() for aval in program.in_avals],
        "results": [aval.str_short() for aval in program.out_avals],
    }
