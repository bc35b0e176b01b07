"""Weight files of random tensors, and what PyTorch's networks make of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from .random_weights import random_tensor

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def expected():
    """Outputs of PyTorch's networks, see `make_expected.py`."""
    return np.load(HERE / "expected.npz")


@pytest.fixture(scope="session")
def tensors():
    """Makes the random tensors of a network: 'inception', 'vgg' or 'alex'."""
    shapes = json.loads((HERE / "shapes.json").read_text())
    return lambda kind: {name: random_tensor(name, shape) for name, shape in shapes[kind].items()}


@pytest.fixture(scope="session")
def weight_file(tensors, tmp_path_factory):
    """Writes them to a file, once for each network."""
    folder = tmp_path_factory.mktemp("weights")

    def path_of(kind):
        path = folder / f"{kind}.safetensors"
        if not path.exists():
            save_file(tensors(kind), path)
        return path

    return path_of
