"""Learned perceptual image patch similarity (LPIPS)."""

import re
from typing import Literal, NamedTuple, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from avq.networks.weights import Variables, Weights, variables_from

Kind: TypeAlias = Literal["vgg", "alex"]


class Convolution(NamedTuple):
    """Convolution with bias and ReLU."""

    features: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1


class Stage(NamedTuple):
    """Layers up to features that are compared.

    Attributes:
        convolutions: one after the other.
        pool: window of a max pool of stride 2 before them; 0 for none.
    """

    convolutions: tuple[Convolution, ...]
    pool: int = 0


STAGES: dict[Kind, tuple[Stage, ...]] = {
    "vgg": (
        Stage((Convolution(64),) * 2),
        Stage((Convolution(128),) * 2, pool=2),
        Stage((Convolution(256),) * 3, pool=2),
        Stage((Convolution(512),) * 3, pool=2),
        Stage((Convolution(512),) * 3, pool=2),
    ),
    "alex": (
        Stage((Convolution(64, kernel=11, stride=4, padding=2),)),
        Stage((Convolution(192, kernel=5, padding=2),), pool=3),
        Stage((Convolution(384),), pool=3),
        Stage((Convolution(256),)),
        Stage((Convolution(256),)),
    ),
}
NETWORKS: dict[Kind, str] = {"vgg": "VGG16", "alex": "AlexNet"}
SMALLEST: dict[Kind, int] = {"vgg": 16, "alex": 31}  # side of the smallest images, pixels
# Mean and standard deviation of the networks' training images, of pixels in [-1, 1].
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Features(nn.Module):
    """Convolutional part of VGG16 or AlexNet; submodules have torchvision's names, the places of
    the convolutions among all layers.
    """

    kind: Kind

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Float[Array, "b _h _w _c"]]:
        """The last maps of each stage."""
        maps, place = [], 0
        for stage in STAGES[self.kind]:
            if stage.pool:
                x = nn.max_pool(x, (stage.pool,) * 2, (2, 2))
                place += 1
            for layer in stage.convolutions:
                x = nn.Conv(
                    layer.features,
                    (layer.kernel,) * 2,
                    layer.stride,
                    layer.padding,
                    precision=lax.Precision.HIGHEST,  # for the same figures on all devices
                    name=str(place),
                )(x)
                x = nn.relu(x)
                place += 2
            maps.append(x)
        return maps


class LPIPS(nn.Module):
    """Perceptual distance of Zhang et al. (2018), version 0.1, with linear heads over the features
    of VGG16 ('vgg') or AlexNet ('alex').
    """

    kind: Kind

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], targets: Float[Array, "b h w 3"]
    ) -> Float[Array, "b"]:
        """Distance of each image from its target, 0 where they are equal; pixels in [-1, 1], sides
        of at least `SMALLEST`. Can be differentiated everywhere.
        """
        shift, scale = (jnp.asarray(value)[None, None, None] for value in (SHIFT, SCALE))
        # Image beside target, so that a device that holds a part of the batch holds these pairs.
        pairs = (jnp.stack([images, targets], axis=1) - shift[None]) / scale[None]
        pairs = pairs.reshape(-1, *images.shape[1:])
        total = jnp.zeros(len(images))
        for level, maps in enumerate(Features(self.kind, name="features")(pairs)):
            a, b = normalised(maps).reshape(-1, 2, *maps.shape[1:]).swapaxes(0, 1)
            head = nn.Conv(
                1, (1, 1), use_bias=False, precision=lax.Precision.HIGHEST, name=f"lin{level}"
            )
            total += jnp.mean(head(jnp.square(a - b)), axis=(1, 2, 3))
        return total


def normalised(maps: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Divides each position's features by their length, those of length 0 by a tiny one: the root
    of 0 has no gradient.
    """
    squares = jnp.sum(jnp.square(maps), axis=-1, keepdims=True)
    return maps / (jnp.sqrt(jnp.maximum(squares, 1e-20)) + 1e-10)


def lpips_variables(weights: Weights) -> tuple[Kind, Variables]:
    """Kind and variables of `LPIPS`, from torchvision's weights of the network with those of the
    heads, or from a state of the package `lpips`.

    Raises:
        InputError: when tensors are missing or of another shape.
    """
    tensors = {_name(name): array for name, array in weights.tensors.items()}
    first = tensors.get("features.0.weight")
    kind: Kind = "alex" if first is not None and first.shape[-1] == 11 else "vgg"
    image = jnp.zeros((1, SMALLEST[kind], SMALLEST[kind], 3))
    network = f"LPIPS of {NETWORKS[kind]}"
    renamed = weights._replace(tensors=tensors)
    return kind, variables_from(renamed, LPIPS(kind), image, image, network=network)


def kind_of(variables: Variables) -> Kind:
    """Kind of `LPIPS` that variables are of."""
    first = variables["params"]["features"]["0"]["kernel"]
    return "alex" if first.shape[0] == STAGES["alex"][0].convolutions[0].kernel else "vgg"


def _name(name: str) -> str:
    """The name in `LPIPS` of a tensor of torchvision ('features.0.weight'), of the heads' file
    ('lin0.model.1.weight') or of the package `lpips` ('net.slice1.0.weight').
    """
    name = re.sub(r"^net\.slice\d+\.", "features.", name)
    return re.sub(r"^lin(\d)\.model\.1\.", r"lin\1.", name)
