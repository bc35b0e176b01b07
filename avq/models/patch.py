"""Encoder and decoder of the patch architecture: an image is a grid of patches from the start, and
all convolutions run on the grids of the codes.

Sources: the hierarchy and attention of Rivera and Hoyos (2023); space-to-depth of Shi et al.
(2016), "Real-time single image and video super-resolution", section 3, and Aitken et al. (2017),
"Checkerboard artifact free sub-pixel convolution", for the initial kernels of its inverse.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from avq.models.attention import Form, Norm, PixelAttention
from avq.models.blocks import PreActivation, maybe_remat
from avq.models.convolutions import conv, glorot
from avq.models.encoder import quantize
from avq.models.norm import NormKind
from avq.models.quantizers import Quantized, Quantizer

# Blocks begin as nearly the identity, so that depth costs no signal at first.
small = nn.initializers.variance_scaling(0.1, "fan_in", "truncated_normal")


def space_to_depth(x: Float[Array, "b h w c"], side: int) -> Float[Array, "b H W f"]:
    """Moves each square of `side` by `side` pixels into the channels of one."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // side, w // side, side * side * c)


def depth_to_space(x: Float[Array, "b h w f"], side: int) -> Float[Array, "b H W c"]:
    """Inverse of `space_to_depth`."""
    b, h, w, f = x.shape
    c = f // (side * side)
    x = x.reshape(b, h, w, side, side, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * side, w * side, c)


def icnr(
    key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> Float[Array, "h w c f"]:
    """Initial kernel (ICNR) of a convolution before `depth_to_space` by 2: the same filter for all
    four pixels of a square, so that flat areas begin flat.
    """
    return jnp.tile(glorot(key, (*shape[:-1], shape[-1] // 4), dtype), 4)


class Residual(nn.Module):
    """Residual block: norm, LeakyReLU and 3x3 convolution twice, at the incoming width."""

    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    norm_kind: NormKind = "rms"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        unit = partial(
            PreActivation,
            x.shape[-1],
            dtype=self.dtype,
            axis_name=self.axis_name,
            norm_kind=self.norm_kind,
        )
        h = unit(name="first")(x, train)
        return x + unit(kernel_init=small, name="last")(h, train)


class UpPatches(nn.Module):
    """3x3 convolution whose channels become squares of 2x2 pixels.

    Attributes:
        features: channels of the output.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W f"]:
        h = conv(4 * self.features, dtype=self.dtype, kernel_init=icnr, name="conv")(x)
        return depth_to_space(h, 2)


class PatchAREN(nn.Module):
    """Attentive residual encoder of one level, on its grid: a residual block, pixel attention, norm
    and 1x1 convolution.

    Attributes:
        features: channels of the output.
        attention_norm: see `PixelAttention`, or 'off'.
        remat: see `maybe_remat`.
    """

    features: int
    attention_dim: int = 128
    attention_form: Form = "algorithm1"
    attention_norm: Norm | Literal["off"] = "bias_clip"
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    norm_kind: NormKind = "rms"
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w f"]:
        common: dict[str, Any] = {
            "dtype": self.dtype,
            "axis_name": self.axis_name,
            "norm_kind": self.norm_kind,
        }
        x = maybe_remat(Residual, self.remat)(**common, name="Residual_0")(x, train)
        if self.attention_norm != "off":
            x = PixelAttention(
                self.attention_dim,
                self.attention_form,
                self.attention_norm,
                self.dtype,
                name="attention",
            )(x)
        return PreActivation(self.features, 1, **common, name="project")(x, train)


class PatchBase(nn.Module):
    """Features of every grid, which all levels share: patches and a 3x3 convolution, and for each
    coarser grid squares of 2x2 and a 1x1 convolution.

    Attributes:
        patch: side of the finest level's patches, pixels.
        width: channels of the features.
        levels: number of grids.
        blocks: residual blocks a grid.
        remat: see `maybe_remat`.
    """

    patch: int
    width: int
    levels: int
    blocks: int = 1
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    norm_kind: NormKind = "rms"
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w _"], train: bool
    ) -> tuple[Float[Array, "b _h _w c"], ...]:
        """Features of images in [-1, 1], finest first."""
        block = maybe_remat(Residual, self.remat)
        common = (self.dtype, self.axis_name, self.norm_kind)
        grids: list[Array] = []
        for level in range(1, self.levels + 1):
            side, size = (2, 1) if grids else (self.patch, 3)
            x = conv(self.width, size, dtype=self.dtype, name=f"down{level}")(
                space_to_depth(x, side)
            )
            for index in range(self.blocks):
                x = block(*common, name=f"Residual_{level}_{index}")(x, train)
            grids.append(x)
        return tuple(grids)


class PatchEncoder(nn.Module):
    """Chain of levels: each coarser one is quantised, up-sampled and joined to the features of the
    next finer one.

    Attributes:
        base: features of all grids.
        arens: one a level, finest first.
        quantizers: one a level, finest first.
    """

    base: PatchBase
    arens: Sequence[PatchAREN]
    quantizers: Sequence[Quantizer]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        train: bool,
        quantizes: Bool[Array, ""] | None = None,
    ) -> tuple[Quantized, ...]:
        """Quantises images in [-1, 1]; one result a level, finest first. See `VQVAE` for
        `quantizes`.
        """
        features, width = self.base(x, train), self.base.width
        results: list[Quantized] = []
        for level in range(len(self.arens), 0, -1):
            h = features[level - 1]
            if results:
                upper = UpPatches(width, dtype=self.dtype, name=f"resize{level + 1}")
                h = jnp.concatenate([h, upper(results[0].vectors)], axis=-1)
                h = conv(width, 1, dtype=self.dtype, name=f"combine{level}")(h)
            z = self.arens[level - 1](h, train)
            results.insert(0, quantize(self.quantizers[level - 1], z, train, quantizes))
        return tuple(results)


class PatchDecoder(nn.Module):
    """Residual blocks on every grid, coarsest first, and a 3x3 convolution from the finest one to
    the pixels of its patches.

    Attributes:
        patch: side of the finest level's patches, pixels.
        width: channels of the features.
        blocks: residual blocks on the finest grid; coarser ones have one.
        channels: of the image.
        remat: see `maybe_remat`.
    """

    patch: int
    width: int
    blocks: int = 1
    channels: int = 3
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    norm_kind: NormKind = "rms"
    remat: bool = False

    @nn.compact
    def __call__(
        self, levels: Sequence[Float[Array, "b _h _w d"]], train: bool
    ) -> Float[Array, "b H W c"]:
        """Images (float32, in about [-1, 1], not clipped) from code vectors, finest level first."""
        common = (self.dtype, self.axis_name, self.norm_kind)
        block = maybe_remat(Residual, self.remat)
        h: Any = None
        for level in range(len(levels), 0, -1):
            own = conv(self.width, dtype=self.dtype, name=f"stem{level}")(levels[level - 1])
            if h is not None:
                own += UpPatches(self.width, dtype=self.dtype, name=f"resize{level + 1}")(h)
            h = own
            for index in range(self.blocks if level == 1 else 1):
                h = block(*common, name=f"Residual_{level}_{index}")(h, train)
        pixels = PreActivation(
            self.channels * self.patch**2,
            dtype=self.dtype,
            axis_name=self.axis_name,
            norm_kind=self.norm_kind,
            kernel_init=small,
            name="to_rgb",
        )(h, train)
        return depth_to_space(pixels, self.patch).astype(jnp.float32)
