"""Tasks of small autoencoders, their states and compiled steps."""

import numpy as np
import pytest

from .task_helpers import BATCH, PLAIN, Stepper, make_task


@pytest.fixture(scope="session")
def images():
    """Smooth random images, 0..255."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (BATCH, 4, 4, 3)).astype(np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture(scope="session")
def ah():
    """Steps of two attentive levels with a discriminator."""
    return Stepper(make_task())


@pytest.fixture(scope="session")
def one_step(ah, images):
    """State before, state after and metrics of a step on one device."""
    return ah.state, *ah(ah.state, images)


@pytest.fixture(scope="session")
def plain():
    """Steps of one level without attention, compiled sooner."""
    return Stepper(make_task(PLAIN))
