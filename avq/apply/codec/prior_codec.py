"""Entropy coding of codes by the probabilities of a prior."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import Float, Int

from avq.apply.codec.exact import frequencies
from avq.apply.codec.exact_transformer import ExactTransformer
from avq.apply.codec.ranges import TOTAL, Decoder, Encoder
from avq.apply.prior import Prior
from avq.errors import InputError
from avq.models.prior import TransformerPrior
from avq.models.prior.places import spans

Grid = Int[np.ndarray, "_h _w"]
TOGETHER = 64  # places that are computed at a time where all codes are known


class PriorCoder:
    """Entropy coder of the codes of images of a prior's size.

    Attributes:
        transformer: predicts codes.
    """

    def __init__(self, transformer: ExactTransformer) -> None:
        self.transformer = transformer

    def encode(self, grids: Sequence[Grid]) -> bytes:
        """Bytes of an image's codes, finest level first."""
        sequence = np.concatenate([grid.reshape(-1) for grid in reversed(grids)]).astype(np.int32)
        encoder, cache = Encoder(), self.transformer.empty_cache()
        for level, first, end in spans(self.transformer.grids):
            for start in range(first, end, TOGETHER):
                stop = min(start + TOGETHER, end)
                logits = self.transformer.logits(sequence, cache, level, start, stop)
                encoder.encode(sequence[start:stop], _frequencies(logits))
        return encoder.content()

    def decode(self, data: bytes, shapes: Sequence[tuple[int, ...]]) -> tuple[Grid, ...]:
        """Codes of an image, one after another.

        Args:
            data: of `encode`.
            shapes: of the grids, finest first.

        Raises:
            InputError: for bytes that no codes are encoded to, and for other shapes than the
                prior's.
        """
        grids = self.transformer.grids
        if tuple(shapes) != grids:
            raise InputError("it has another size than the images of the prior")
        sequence = np.zeros(spans(grids)[-1].end, np.int32)
        decoder, cache = Decoder(data), self.transformer.empty_cache()
        for level, first, end in spans(grids):
            for place in range(first, end):
                logits = self.transformer.logits(sequence, cache, level, place, place + 1)
                sequence[place] = decoder.decode(_frequencies(logits))[0]
        parts = {level: sequence[first:end] for level, first, end in spans(grids)}
        return tuple(parts[level].reshape(grid) for level, grid in enumerate(grids))


@dataclass(frozen=True)
class PriorCodec:
    """A prior as the entropy model of an autoencoder's codes.

    Attributes:
        prior: a transformer.
    """

    prior: Prior
    kind: ClassVar[str] = "prior"

    @property
    def model(self) -> str:
        """Digest of the autoencoder."""
        return self.prior.tokenizer.digest

    @property
    def sizes(self) -> list[int]:
        """Codes of each level's codebook."""
        return list(self.prior.tokenizer.codebook_sizes)

    @property
    def digest(self) -> bytes:
        """8 bytes that change with any parameter of the prior."""
        return bytes.fromhex(self.prior.digest)

    @cached_property
    def coder(self) -> PriorCoder:
        """The entropy coder.

        Raises:
            InputError: for a prior that is no transformer.
        """
        if not isinstance(self.prior.module, TransformerPrior):
            raise InputError(
                "--prior: only the probabilities of a transformer can be computed alike on every "
                "machine. Give a prior of --config.model.kind=transformer."
            )
        params = jax.device_get(self.prior.variables["params"])
        return PriorCoder(ExactTransformer(self.prior.module, params))


def _frequencies(logits: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m k"]:
    """Frequencies for the range coder, each less 1."""
    return frequencies(logits, TOTAL - logits.shape[1])
