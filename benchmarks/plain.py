"""Our model in the plain formulation: what its steps cost before any of them was rewritten."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import jax

from avq import cpu
from avq.models import blocks


def transposed_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The framework's transposed convolution of stride 2."""
    return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME")


@contextmanager
def plain_formulation() -> Iterator[None]:
    """Whatever is traced inside uses framework operations and default compiler options."""
    with (
        mock.patch.object(blocks, "upsampling_conv", transposed_conv),
        mock.patch.object(cpu, "compiler_options", dict),
    ):
        yield
