"""The discrete autoencoder: encode, quantise, decode, with any number of levels."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from avq.models.attention import Form, Norm
from avq.models.decoder import Decoder
from avq.models.encoder import AREN, BaseEncoder, Encoder
from avq.models.quantizer import Quantized, Quantizer, Statistics


@flax.struct.dataclass
class Reconstruction:
    """An image `[b, h, w, 3]` in about [-1, 1] (not clipped) and the quantised levels it was
    decoded from, finest first.
    """

    images: Any
    levels: tuple[Quantized, ...]


class VQVAE(nn.Module):
    """Attentive VQ-VAE of Rivera and Hoyos (2023), figures 1 to 3; the defaults are the paper's
    two-level AH-VQVAE.

    Level l (1 is the finest) has a grid of `1 / 2**(len(base_filters) - 1 + l)` of the image's
    side.

    Attributes:
        levels: number of code grids.
        codes: size of each level's codebook.
        latent_dim: channels of a code.
        base_filters: of the base encoder: stem, then one a halving.
        aren_filters: width of the ARENs' down-sampling blocks.
        decoder_filters: stem, then one a doubling.
        encoder_blocks, decoder_blocks: identity blocks a stage.
        stride_at: where a `Res` block strides, 'last' or 'first'.
        attention_dim, attention_form, attention_norm: see `PixelAttention`; the norm 'off' leaves
            attention out.
        decoder_inputs: 'finest' or 'all' levels.
        codebook_update, commitment, codebook_decay, revive_below: see `Quantizer`.
        dtype: compute type of convolutions and attention, 'float32' or 'bfloat16'.
        remat: whether the backward pass computes the inside of residual blocks again, for less
            memory.
        sync_batch_norm: whether batch statistics are of the whole batch, over all devices; else
            each device normalises its own part, and results depend on their number.
        axis_name: mapped axis over which batch and codebook statistics are taken in training.
    """

    levels: int = 2
    codes: int = 1024
    latent_dim: int = 256
    base_filters: Sequence[int] = (128, 128, 128)
    aren_filters: int = 128
    decoder_filters: Sequence[int] = (128, 128, 128, 128)
    encoder_blocks: int = 2
    decoder_blocks: int = 1
    stride_at: Literal["first", "last"] = "last"
    attention_dim: int = 128
    attention_form: Form = "algorithm1"
    attention_norm: Norm | Literal["off"] = "bias_clip"
    decoder_inputs: Literal["finest", "all"] = "finest"
    codebook_update: Literal["ema", "gradient"] = "ema"
    commitment: float = 0.25
    codebook_decay: float = 0.99
    revive_below: float = 0.03
    dtype: str = "float32"
    remat: bool = False
    sync_batch_norm: bool = True
    axis_name: str | None = None

    def setup(self) -> None:
        if len(self.decoder_filters) != len(self.base_filters) + 1:
            raise ValueError(
                f"model.decoder_filters has {len(self.decoder_filters)} entries, must have "
                f"{len(self.base_filters) + 1}: a stem and one for each halving to the finest grid"
            )
        if self.stride_at not in ("first", "last"):
            raise ValueError(f"model.stride_at {self.stride_at!r} is not one of first, last")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"model.dtype {self.dtype!r} is not one of float32, bfloat16")
        dtype = jnp.dtype(self.dtype)
        norm_axis = self.axis_name if self.sync_batch_norm else None
        common: dict[str, Any] = {"dtype": dtype, "axis_name": norm_axis}
        shape: dict[str, Any] = {
            "blocks": self.encoder_blocks,
            "stride_at": self.stride_at,
            "remat": self.remat,
        }
        base = BaseEncoder(self.base_filters, self.latent_dim, **shape, **common)
        arens = [
            AREN(
                (self.aren_filters,) * level,
                self.latent_dim,
                attention_dim=self.attention_dim,
                attention_form=self.attention_form,
                attention_norm=self.attention_norm,
                **shape,
                **common,
            )
            for level in range(1, self.levels + 1)
        ]
        quantizers = [
            Quantizer(
                self.codes,
                self.latent_dim,
                self.codebook_update,
                self.commitment,
                self.codebook_decay,
                self.revive_below,
                self.axis_name,
            )
            for _ in range(self.levels)
        ]
        self.encoder = Encoder(base, arens, quantizers, dtype)
        self.decoder = Decoder(
            self.decoder_filters,
            self.decoder_inputs,
            self.decoder_blocks,
            remat=self.remat,
            **common,
        )

    def __call__(self, images: Float[Array, "b h w 3"], train: bool = False) -> Reconstruction:
        """Reconstructs images in [-1, 1]. Training mutates 'batch_stats', fills an empty 'codebook'
        and draws from the rng 'codebook'.
        """
        levels = self.encoder(images, train)
        return Reconstruction(self.decoder([level.vectors for level in levels], train), levels)

    def learn(self, batch: Sequence[Statistics]) -> None:
        """Moves the codebooks, finest first, by what was seen in a step: see `Quantizer.learn`.
        Mutates 'codebook'.
        """
        for quantizer, statistics in zip(self.encoder.quantizers, batch, strict=True):
            quantizer.learn(statistics)

    def encode(self, images: Float[Array, "b h w 3"]) -> tuple[Int[Array, "b _h _w"], ...]:
        """Codes of images in [-1, 1], finest level first."""
        return tuple(level.codes for level in self.encoder(images, False))

    def decode(self, codes: Sequence[Int[Array, "b _h _w"]]) -> Float[Array, "b h w 3"]:
        """Images in about [-1, 1] (not clipped) from the codes of every level, finest first."""
        vectors = [q.lookup(c) for q, c in zip(self.encoder.quantizers, codes, strict=True)]
        return self.decoder(vectors, False)

    def stride(self) -> int:
        """What the side of an image must be a multiple of: that of the coarsest grid."""
        return 2 ** (len(self.base_filters) - 1 + self.levels)

    def grids(self, image_size: int) -> tuple[int, ...]:
        """Side of each level's grid of codes for a square image, finest first."""
        finest = image_size // 2 ** len(self.base_filters)
        return tuple(finest // 2**level for level in range(self.levels))

    def bits_per_pixel(self, image_size: int) -> float:
        """Bits of all levels' codes over pixels, at `log2(codes)` each: no entropy coding."""
        tokens = sum(side**2 for side in self.grids(image_size))
        return tokens * math.log2(self.codes) / image_size**2
