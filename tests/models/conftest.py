"""Our own modules never mix types by accident; optax does, so this holds for models alone."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_types():
    with jax.numpy_dtype_promotion("strict"):
        yield
