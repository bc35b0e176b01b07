"""Encoder: an image to one grid of codes a level, by a base encoder and a chain of AREN levels.

Source: section 3.1 and figures 2 and 3 of Rivera and Hoyos (2023).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from avq.models.attention import Form, Norm, PixelAttention
from avq.models.blocks import Id, Res, maybe_remat
from avq.models.convolutions import UpConv, conv
from avq.models.norm import NormKind
from avq.models.quantizers import Quantized, Quantizer


class Trunk(nn.Module):
    """Stages of `blocks` identity blocks at the incoming width and a block that halves the side.

    Attributes:
        filters: filters of each halving.
        blocks: identity blocks a stage.
        stride_at: see `Res`.
        remat: whether the backward pass recomputes the inside of blocks, see `maybe_remat`.
    """

    filters: Sequence[int]
    blocks: int = 2
    stride_at: Literal["first", "last"] = "last"
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    norm_kind: NormKind = "batch"
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b H W f"]:
        common: dict[str, Any] = {
            "dtype": self.dtype,
            "axis_name": self.axis_name,
            "norm_kind": self.norm_kind,
        }
        identity, down = maybe_remat(Id, self.remat), maybe_remat(Res, self.remat)
        for stage, features in enumerate(self.filters):
            for index in range(stage * self.blocks, (stage + 1) * self.blocks):
                x = identity(**common, name=f"Id_{index}")(x, train)
            x = down(features, self.stride_at, **common, name=f"Res_{stage}")(x, train)
        return x


class BaseEncoder(nn.Module):
    """Stem, trunk and a 1x1 convolution to the latent width; its output is shared by all levels.

    Attributes:
        filters: filters of the stem, then of each halving; their number is R in Table 1.
        features: channels of the output.
        blocks: identity blocks a stage, r in Table 1.
        remat: see `Trunk`.
    """

    filters: Sequence[int]
    features: int
    blocks: int = 2
    stride_at: Literal["first", "last"] = "last"
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    norm_kind: NormKind = "batch"
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b H W f"]:
        h = conv(self.filters[0], dtype=self.dtype, name="stem")(x)
        trunk = Trunk(
            self.filters[1:],
            self.blocks,
            self.stride_at,
            self.dtype,
            self.axis_name,
            self.norm_kind,
            self.remat,
            name="trunk",
        )
        return conv(self.features, 1, dtype=self.dtype, name="project")(trunk(h, train))


class AREN(nn.Module):
    """Attentive Residual Encoder of one level: trunk without a stem, pixel attention, 1x1
    convolution.

    Attributes:
        filters: filters of each halving; level l has l of them.
        features: channels of the output.
        blocks: identity blocks a stage.
        remat: see `Trunk`.
        attention_norm: see `PixelAttention`, or 'off' for a level without attention (the
            H-VQVAE's).
    """

    filters: Sequence[int]
    features: int
    blocks: int = 2
    stride_at: Literal["first", "last"] = "last"
    attention_dim: int = 128
    attention_form: Form = "algorithm1"
    attention_norm: Norm | Literal["off"] = "bias_clip"
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    norm_kind: NormKind = "batch"
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b H W f"]:
        h = Trunk(
            self.filters,
            self.blocks,
            self.stride_at,
            self.dtype,
            self.axis_name,
            self.norm_kind,
            self.remat,
            name="trunk",
        )(x, train)
        if self.attention_norm != "off":
            h = PixelAttention(
                self.attention_dim,
                self.attention_form,
                self.attention_norm,
                self.dtype,
                name="attention",
            )(h)
        return conv(self.features, 1, dtype=self.dtype, name="project")(h)


class Encoder(nn.Module):
    """Chain of levels: each coarser one is quantised, up-sampled and joined to the next finer one.

    Attributes:
        base: base encoder that all levels share.
        arens: one a level, finest first.
        quantizers: one a level, finest first; their `code_dim` is the width of `base`.
    """

    base: BaseEncoder
    arens: Sequence[AREN]
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
        base = self.base(x, train)
        features = self.base.features
        top = len(self.arens)
        results: list[Quantized] = []
        for level in range(top, 0, -1):
            z = self.arens[level - 1](base, train)
            if level < top:
                upper = UpConv(features, self.dtype, name=f"resize{level + 1}")(results[0].vectors)
                z = jnp.concatenate([upper, z], axis=-1)
            if level < top or top == 1:
                z = conv(features, 1, dtype=self.dtype, name=f"combine{level}")(z)
            results.insert(0, quantize(self.quantizers[level - 1], z, train, quantizes))
        return tuple(results)


def quantize(
    quantizer: Quantizer,
    z: Float[Array, "b h w d"],
    train: bool,
    quantizes: Bool[Array, ""] | None,
) -> Quantized:
    """Quantises latents of a level. See `VQVAE` for `quantizes`."""
    quantized: Quantized = quantizer(z, train)
    if quantizes is None:
        return quantized
    latents = z.astype(jnp.float32) if quantized.latents is None else quantized.latents
    return replace(
        quantized,
        vectors=jnp.where(quantizes, quantized.vectors, latents),
        loss=jnp.where(quantizes, quantized.loss, 0.0),
    )
