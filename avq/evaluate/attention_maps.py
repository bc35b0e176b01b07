"""Attention of a trained model: rows of W for chosen pixels, and the sums of all rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from avq.data.dataset import evenly
from avq.models.attention import Norm, attention_weights
from avq.models.vqvae import VQVAE
from avq.pixels import to_float

MAX_ROWS = 256  # of W that sums are computed of, per image and level


@dataclass(frozen=True)
class LevelAttention:
    """Attention of one level of the encoder.

    Attributes:
        maps: rows of W of the chosen pixels, over the grid of the level.
        row_sums: of evenly spaced rows.
    """

    maps: Float[np.ndarray, "b p h w"]
    row_sums: Float[np.ndarray, "b r"]


def attention_maps(
    model: VQVAE,
    variables: Mapping[str, Any],
    images: UInt8[np.ndarray, "b h w c"],
    pixels: Sequence[tuple[float, float]],
) -> tuple[LevelAttention, ...]:
    """Attention of each level, finest first; empty for a model without attention.

    Args:
        model, variables: the autoencoder.
        images: to encode.
        pixels: places (down, across) of the chosen pixels as shares of the sides, each in [0, 1).
    """
    norm = model.attention_norm
    if norm == "off":
        return ()
    return tuple(
        _of_level(norm, queries, keys, pixels)
        for queries, keys in projections(model, variables, images)
    )


def projections(
    model: VQVAE, variables: Mapping[str, Any], images: UInt8[np.ndarray, "b h w _"]
) -> list[tuple[Float[Array, "b _h _w c"], Float[Array, "b _h _w c"]]]:
    """Projections g1 and g2 (queries and keys) of each level's attention, finest first."""

    def captured(v: Any, x: UInt8[Array, "b h w c"]) -> Any:
        _, state = model.apply(
            v,
            to_float(x),
            capture_intermediates=lambda module, method: module.name in ("g1", "g2"),
            mutable=["intermediates"],
        )
        return state["intermediates"]["encoder"]

    encoder = jax.jit(captured)(variables, images)
    levels = [encoder[f"arens_{index}"]["attention"] for index in range(model.levels)]
    return [tuple(level[name]["__call__"][0] for name in ("g1", "g2")) for level in levels]


def _of_level(
    norm: Norm,
    queries: Float[Array, "b h w c"],
    keys: Float[Array, "b h w c"],
    pixels: Sequence[tuple[float, float]],
) -> LevelAttention:
    b, h, w, c = queries.shape
    tokens = queries.reshape(b, h * w, c)

    def rows(places: Any) -> Float[np.ndarray, "b r n"]:
        """Rows of W; each is normalised by itself."""
        chosen = tokens[:, jnp.asarray(places)]
        return np.asarray(attention_weights(chosen, keys.reshape(b, h * w, c), norm))

    chosen = [int(down * h) * w + int(across * w) for down, across in pixels]
    maps = rows(chosen).reshape(b, len(chosen), h, w)
    return LevelAttention(maps, rows(evenly(h * w, MAX_ROWS)).sum(-1))
