"""Inception-v3 as Frechet and kernel distances use it."""

from typing import TypeAlias

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from avq.networks.weights import Variables, Weights, require, variables_from

SIZE = 299  # side of the squares that the network was trained on
FEATURES = 2048
CLASSES = 1008  # of the network that these distances use; others have 1000 or 1001

Maps: TypeAlias = Float[Array, "b _h _w _c"]
Kernel: TypeAlias = int | tuple[int, int]
Layer: TypeAlias = tuple[str, int, Kernel]  # name, number of features, kernel


class InceptionV3(nn.Module):
    """Network of Szegedy et al. (2015) up to its last pooling, of the version that was published in
    TensorFlow on 2015-12-05: average pools leave out the padding, and the last block's pool takes
    maxima. Submodules have the names of pytorch-fid's weight file.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b 2048"]:
        """Features of images in [-1, 1] of at least 75 pixels a side; those that a distance
        compares have 299.
        """
        x = Convolution(32, 3, stride=2, name="Conv2d_1a_3x3")(x)
        x = Convolution(32, 3, padding="VALID", name="Conv2d_2a_3x3")(x)
        x = Convolution(64, 3, name="Conv2d_2b_3x3")(x)
        x = _shrunk(x)
        x = Convolution(80, 1, name="Conv2d_3b_1x1")(x)
        x = Convolution(192, 3, padding="VALID", name="Conv2d_4a_3x3")(x)
        x = _shrunk(x)
        for name, width in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = BlockA(width, name=name)(x)
        x = BlockB(name="Mixed_6a")(x)
        for name, width in zip("bcde", (128, 160, 160, 192), strict=True):
            x = BlockC(width, name=f"Mixed_6{name}")(x)
        x = BlockD(name="Mixed_7a")(x)
        x = BlockE("mean", name="Mixed_7b")(x)
        x = BlockE("max", name="Mixed_7c")(x)
        return jnp.mean(x, axis=(1, 2))


class Convolution(nn.Module):
    """Convolution, batch norm by stored moments, ReLU; no padding where the stride is above 1."""

    features: int
    kernel: Kernel
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        kernel = (self.kernel,) * 2 if isinstance(self.kernel, int) else self.kernel
        # Devices that round products by default would give other distances.
        x = nn.Conv(
            self.features,
            kernel,
            (self.stride,) * 2,
            self.padding if self.stride == 1 else "VALID",
            use_bias=False,
            precision=lax.Precision.HIGHEST,
            name="conv",
        )(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


class BlockA(nn.Module):
    """Kernels of 1, 5 and twice 3, beside a pool with `pool_features`."""

    pool_features: int

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        return _joined(
            _branch(x, ("branch1x1", 64, 1)),
            _branch(x, ("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
            _branch(
                x, ("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)
            ),
            _branch(_mean(x), ("branch_pool", self.pool_features, 1)),
        )


class BlockB(nn.Module):
    """Halves the sides of block A's maps."""

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        double = _branch(x, ("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3))
        return _joined(
            Convolution(384, 3, stride=2, name="branch3x3")(x),
            Convolution(96, 3, stride=2, name="branch3x3dbl_3")(double),
            _shrunk(x),
        )


class BlockC(nn.Module):
    """Kernels of 7 as rows and columns, of `width` features inside."""

    width: int

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        row, column, width = (1, 7), (7, 1), self.width
        return _joined(
            _branch(x, ("branch1x1", 192, 1)),
            _branch(
                x,
                ("branch7x7_1", width, 1),
                ("branch7x7_2", width, row),
                ("branch7x7_3", 192, column),
            ),
            _branch(
                x,
                ("branch7x7dbl_1", width, 1),
                ("branch7x7dbl_2", width, column),
                ("branch7x7dbl_3", width, row),
                ("branch7x7dbl_4", width, column),
                ("branch7x7dbl_5", 192, row),
            ),
            _branch(_mean(x), ("branch_pool", 192, 1)),
        )


class BlockD(nn.Module):
    """Halves the sides of block C's maps."""

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        three = _branch(x, ("branch3x3_1", 192, 1))
        seven = _branch(
            x,
            ("branch7x7x3_1", 192, 1),
            ("branch7x7x3_2", 192, (1, 7)),
            ("branch7x7x3_3", 192, (7, 1)),
        )
        return _joined(
            Convolution(320, 3, stride=2, name="branch3x3_2")(three),
            Convolution(192, 3, stride=2, name="branch7x7x3_4")(seven),
            _shrunk(x),
        )


class BlockE(nn.Module):
    """Kernels of 3 as rows beside columns, and a pool of the kind 'mean' or 'max'."""

    pool: str

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        three = _branch(x, ("branch3x3_1", 384, 1))
        double = _branch(x, ("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3))
        pooled = _mean(x) if self.pool == "mean" else nn.max_pool(x, (3, 3), padding="SAME")
        return _joined(
            _branch(x, ("branch1x1", 320, 1)),
            _branch(three, ("branch3x3_2a", 384, (1, 3))),
            _branch(three, ("branch3x3_2b", 384, (3, 1))),
            _branch(double, ("branch3x3dbl_3a", 384, (1, 3))),
            _branch(double, ("branch3x3dbl_3b", 384, (3, 1))),
            _branch(pooled, ("branch_pool", 192, 1)),
        )


def _branch(x: Maps, *layers: Layer) -> Maps:
    """Convolutions one after the other; inside a compact method."""
    for name, features, kernel in layers:
        x = Convolution(features, kernel, name=name)(x)
    return x


def _joined(*branches: Maps) -> Maps:
    return jnp.concatenate(branches, axis=-1)


def _mean(x: Maps) -> Maps:
    pooled: Maps = nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)
    return pooled


def _shrunk(x: Maps) -> Maps:
    pooled: Maps = nn.max_pool(x, (3, 3), (2, 2))
    return pooled


def inception_variables(weights: Weights) -> Variables:
    """Variables of `InceptionV3` from its weight file.

    Raises:
        InputError: when they are another network's.
    """
    network = "InceptionV3"
    # The features do not need the last layer, but its size tells networks of other training apart.
    require(weights, "fc.weight", (CLASSES, FEATURES), network)
    example = jnp.zeros((1, SIZE, SIZE, 3))
    return variables_from(weights, InceptionV3(), example, network=network)


def inception_features(
    variables: Variables, images: UInt8[Array, "b h w 3"]
) -> Float[Array, "b 2048"]:
    """Features of images of any size, which are resized as in TensorFlow 1. Equal to those of
    torch-fidelity.
    """
    x = (resize_bilinear(images.astype(jnp.float32), SIZE) - 128) / 128
    return jnp.asarray(InceptionV3().apply(variables, x))


def resize_bilinear(images: Float[Array, "b h w c"], size: int) -> Float[Array, "b s s c"]:
    """Resizes to squares as TensorFlow 1 does: bilinear, first pixel on first pixel, and without a
    filter against aliasing.
    """
    for axis in (2, 1):
        length = images.shape[axis]
        place = np.arange(size, dtype=np.float32) * np.float32(length / size)
        low = place.astype(np.int32)
        share = (place - low.astype(np.float32)).reshape(
            [size if a == axis else 1 for a in range(4)]
        )
        below = jnp.take(images, low, axis)
        above = jnp.take(images, np.minimum(low + 1, length - 1), axis)
        images = below + (above - below) * share
    return images
