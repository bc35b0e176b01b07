"""The discrete autoencoder: encode, quantise, decode, with any number of levels."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from avq.models.attention import Form, Norm
from avq.models.decoder import Decoder
from avq.models.encoder import AREN, BaseEncoder, Encoder
from avq.models.norm import NormKind
from avq.models.patch import PatchAREN, PatchBase, PatchDecoder, PatchEncoder
from avq.models.quantizers import CodebookStatistics, EMAQuantizer, Quantized, Quantizer
from avq.settings import setting
from avq.typing import Leaf


@flax.struct.dataclass
class Reconstruction:
    """Result of the autoencoder.

    Attributes:
        images: float32 `[b, h, w, c]` in about [-1, 1], not clipped.
        levels: results of the quantisers, finest level first.
    """

    images: Leaf
    levels: tuple[Quantized, ...]


class VQVAE(nn.Module):
    """Attentive VQ-VAE of Rivera and Hoyos (2023), figures 1 to 3; the defaults are the paper's
    two-level AH-VQVAE. `architecture='patch'` has the same parts, see `avq.models.patch`.

    The finest level has a code for each square of `patch` pixels, or of
    `2**len(base_filters)` where the architecture is 'aren'; each further level has half the side.

    Attributes:
        make_quantizer: class of the quantisers, or a partial of it; called once a level. Their
            `code_dim` is the width of the latents.
        axis_name: mapped axis over which batch statistics are averaged in training.
        channels: of the images.

    Raises:
        ValueError: on the first call, for architecture 'aren', unless `decoder_filters` has one
            entry more than `base_filters`.
    """

    architecture: Literal["aren", "patch"] = setting(
        "aren",
        "aren: the paper's; patch: all convolutions on the grids of the codes",
        choices=("aren", "patch"),
    )
    patch: int = setting(
        4, "side of the finest level's patches, pixels; of architecture patch", low=1, high=256
    )
    width: int = setting(
        64, "channels of encoder and decoder; of architecture patch", low=1, high=2**16
    )
    levels: int = setting(2, "code grids, each of half the side of the one before", low=1, high=8)
    base_filters: Sequence[int] = setting(
        (128, 128, 128), "filters of the base encoder: stem, then one a halving", low=1, high=2**16
    )
    aren_filters: int = setting(
        128, "filters of the ARENs' down-sampling blocks", low=1, high=2**16
    )
    decoder_filters: Sequence[int] = setting(
        (128, 128, 128, 128), "filters of the decoder: stem, then one a doubling", low=1, high=2**16
    )
    encoder_blocks: int = setting(2, "identity blocks a stage of the encoder", low=0, high=100)
    decoder_blocks: int = setting(1, "identity blocks a stage of the decoder", low=0, high=100)
    stride_at: Literal["first", "last"] = setting(
        "last", "convolution of a down-sampling block that strides", choices=("first", "last")
    )
    attention_dim: int = setting(
        128, "channels of the two projections of attention", low=1, high=2**16
    )
    attention_form: Form = setting(
        "algorithm1", "formula of the paper for attention", choices=get_args(Form)
    )
    attention_norm: Norm | Literal["off"] = setting(
        "bias_clip",
        "norm of attention weights; off: no attention",
        choices=(*get_args(Norm), "off"),
    )
    norm: NormKind = setting(
        "batch",
        "norm of encoder and decoder: of the batch, or rms over each pixel's channels",
        choices=get_args(NormKind),
    )
    decoder_inputs: Literal["finest", "all"] = setting(
        "finest", "levels that the decoder reads", choices=("finest", "all")
    )
    dtype: Literal["float32", "bfloat16"] = setting(
        "float32", "compute type of convolutions and attention", choices=("float32", "bfloat16")
    )
    remat: bool = setting(
        False,
        "whether the backward pass recomputes the inside of residual blocks, to save memory; saves "
        "none on a CPU without sync_batch_norm",
    )
    sync_batch_norm: bool = setting(
        True, "whether batch statistics are of all devices; else results depend on their number"
    )
    make_quantizer: Callable[..., Quantizer] = EMAQuantizer
    axis_name: str | None = None
    channels: int = 3

    def setup(self) -> None:
        quantizers = [self.make_quantizer() for _ in range(self.levels)]
        common: dict[str, Any] = {
            "dtype": jnp.dtype(self.dtype),
            "axis_name": self.axis_name if self.sync_batch_norm else None,
            "norm_kind": self.norm,
            "remat": self.remat,
        }
        attention: dict[str, Any] = {
            "attention_dim": self.attention_dim,
            "attention_form": self.attention_form,
            "attention_norm": self.attention_norm,
        }
        if self.architecture == "patch":
            self._set_up_patches(quantizers, attention, common)
        else:
            self._set_up_arens(quantizers, attention, common)

    def _set_up_patches(
        self, quantizers: list[Quantizer], attention: dict[str, Any], common: dict[str, Any]
    ) -> None:
        size, code_dim = (self.patch, self.width), quantizers[0].code_dim
        base = PatchBase(*size, self.levels, self.encoder_blocks, **common)
        arens = [PatchAREN(code_dim, **attention, **common) for _ in quantizers]
        self.encoder: Any = PatchEncoder(base, arens, quantizers, common["dtype"])
        self.decoder: Any = PatchDecoder(*size, self.decoder_blocks, self.channels, **common)

    def _set_up_arens(
        self, quantizers: list[Quantizer], attention: dict[str, Any], common: dict[str, Any]
    ) -> None:
        if len(self.decoder_filters) != len(self.base_filters) + 1:
            raise ValueError(
                f"model.decoder_filters has {len(self.decoder_filters)} entries, must have "
                f"{len(self.base_filters) + 1}: a stem and one for each halving to the finest grid"
            )
        shape: dict[str, Any] = {"blocks": self.encoder_blocks, "stride_at": self.stride_at}
        width = quantizers[0].code_dim
        base = BaseEncoder(self.base_filters, width, **shape, **common)
        arens = [
            AREN((self.aren_filters,) * level, width, **attention, **shape, **common)
            for level in range(1, self.levels + 1)
        ]
        self.encoder = Encoder(base, arens, quantizers, common["dtype"])
        self.decoder = Decoder(
            self.decoder_filters,
            self.decoder_inputs,
            self.decoder_blocks,
            self.channels,
            **common,
        )

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        train: bool = False,
        quantizes: Bool[Array, ""] | None = None,
    ) -> Reconstruction:
        """Reconstructs images. Training updates 'batch_stats', fills an empty 'codebook' and draws
        from the rng stream 'codebook'.

        Args:
            images: pixels in [-1, 1].
            train: whether this is training.
            quantizes: false where decoder and finer levels read the latents in place of the codes,
                and the quantisation loss is 0; None as for true.
        """
        levels = self.encoder(images, train, quantizes)
        read = [level.vectors for level in levels[: self.decoded_levels()]]
        return Reconstruction(self.decoder(read, train), levels)

    def update_codebooks(self, statistics: Sequence[CodebookStatistics]) -> None:
        """Updates the collection 'codebook' by the statistics of a step, finest level first."""
        for quantizer, of_level in zip(self.encoder.quantizers, statistics, strict=True):
            quantizer.update(of_level)

    def encode(self, images: Float[Array, "b h w c"]) -> tuple[Int[Array, "b _h _w"], ...]:
        """Codes of images in [-1, 1] of the `decoded_levels`, finest level first."""
        return tuple(level.codes for level in self.encoder(images, False)[: self.decoded_levels()])

    def decode(self, codes: Sequence[Int[Array, "b _h _w"]]) -> Float[Array, "b h w c"]:
        """Images in about [-1, 1] (not clipped) from the codes of `encode`."""
        quantizers = self.encoder.quantizers[: self.decoded_levels()]
        vectors = [q.lookup(c) for q, c in zip(quantizers, codes, strict=True)]
        images: Array = self.decoder(vectors, False)
        return images

    def codebooks(self) -> tuple[Float[Array, "_k _d"], ...]:
        """Vectors of each level's codes, finest first."""
        return tuple(quantizer.codebook() for quantizer in self.encoder.quantizers)

    def decoded_levels(self) -> int:
        """Number of levels, from the finest on, whose codes decoding reads. Coarser ones act
        through them alone.
        """
        return 1 if self.decoder_inputs == "finest" else self.levels

    def stride(self) -> int:
        """Pixels along the side of a code of the coarsest level; divides the side of an image."""
        pixels: int = self._finest_stride() * 2 ** (self.levels - 1)
        return pixels

    def _finest_stride(self) -> int:
        if self.architecture == "patch":
            return self.patch
        pixels: int = 2 ** len(self.base_filters)
        return pixels

    def grids(self, image_size: int) -> tuple[int, ...]:
        """Side of each level's grid of codes for a square image, finest first."""
        finest = image_size // self._finest_stride()
        return tuple(finest // 2**level for level in range(self.levels))

    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level, finest first."""
        size = self.make_quantizer(parent=None).codebook_size  # of no submodule
        return (size,) * self.levels

    def bits_per_pixel(self, image_size: int) -> float:
        """Bits of the codes that decoding reads over pixels, at `log2(codebook_size)` each: no
        entropy coding.

        Args:
            image_size: side of a square image in pixels.
        """
        sizes = list(zip(self.grids(image_size), self.codebook_sizes(), strict=True))
        sizes = sizes[: self.decoded_levels()]
        return sum(side**2 * math.log2(k) for side, k in sizes) / image_size**2
