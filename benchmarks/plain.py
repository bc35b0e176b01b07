"""Our model in the plain formulation: what its steps cost before any of them was rewritten."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp

from avq import cpu
from avq.models import blocks, discriminator
from avq.models.norm import EPSILON, LEAK, MOMENTUM


class NormLeaky(nn.Module):
    """The framework's batch norm, then its leaky ReLU."""

    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = nn.BatchNorm(
            not train,
            momentum=MOMENTUM,
            epsilon=EPSILON,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name="norm",
        )
        return nn.leaky_relu(norm(x), LEAK)


def transposed_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The framework's transposed convolution of stride 2."""
    return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME")


PLAIN = (
    (blocks, "upsampling_conv", transposed_conv),
    (blocks, "pointwise", jax.lax.conv_general_dilated),
    (blocks, "NormLeaky", NormLeaky),
    (discriminator, "NormLeaky", NormLeaky),
    (cpu, "OPTIONS", {}),
    (cpu, "OPTIONS_OF_INFERENCE", {}),
)


@contextmanager
def plain_formulation() -> Iterator[None]:
    """Whatever is traced inside uses framework operations and default compiler options."""
    with ExitStack() as stack:
        for module, name, plain in PLAIN:
            stack.enter_context(mock.patch.object(module, name, plain))
        yield
