"""Reference operations: the framework's own, in place of those that avq rewrites for speed."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp

from avq import cpu
from avq.models import blocks, convolutions, discriminator
from avq.models.norm import EPSILON, LEAK, MOMENTUM


class NormLeaky(nn.Module):
    """Batch norm of Flax, then its leaky ReLU."""

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
    """Transposed convolution of stride 2, as JAX computes it."""
    return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME")


REFERENCES: tuple[tuple[ModuleType, str, Any], ...] = (
    (convolutions, "upsampling_conv", transposed_conv),
    (convolutions, "pointwise", jax.lax.conv_general_dilated),
    (convolutions, "same", jax.lax.conv_general_dilated),
    (blocks, "NormLeaky", NormLeaky),
    (discriminator, "NormLeaky", NormLeaky),
    (cpu, "OPTIONS", {}),
    (cpu, "ONEDNN", {}),
)


@contextmanager
def reference_ops() -> Iterator[None]:
    """Traces with framework operations and default compiler options inside the context."""
    with ExitStack() as stack:
        for module, name, reference in REFERENCES:
            stack.enter_context(mock.patch.object(module, name, reference))
        yield
