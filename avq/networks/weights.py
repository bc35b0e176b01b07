"""Weight files, and variables of Flax modules from them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from avq.errors import InputError
from avq.networks.torch_file import read_tensors

Variables = Mapping[str, Any]
# Names of a Flax module's arrays in PyTorch.
NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
FORMATS = "Give a .safetensors file, or one written by torch.save(network.state_dict(), path)"


class Weights(NamedTuple):
    """Content of a weight file.

    Attributes:
        path: of the file, or of several, for messages.
        tensors: by name, as PyTorch names them and lays them out.
        digest: SHA-256 of the file, hexadecimal; those of several joined by '+'.
    """

    path: str
    tensors: dict[str, np.ndarray]
    digest: str


def read_weights(*paths: Path) -> Weights:
    """Reads the tensors of one or several files. Nothing in a file is executed.

    Args:
        paths: `.safetensors` files; any other is taken for one of PyTorch's.

    Raises:
        InputError: when one is missing, damaged, or not of these formats.
    """
    tensors: dict[str, np.ndarray] = {}
    digests = []
    for path in paths:
        try:
            content = path.read_bytes()
            tensors |= _parsed(content, path.suffix)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}). {FORMATS}.") from error
        except InputError as error:
            raise InputError(f"{path} is not read: {error}. {FORMATS}.") from error
        digests.append(hashlib.sha256(content).hexdigest())
    return Weights(" + ".join(map(str, paths)), tensors, "+".join(digests))


def _parsed(content: bytes, suffix: str) -> dict[str, np.ndarray]:
    if suffix != ".safetensors":
        return read_tensors(content)
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors: dict[str, np.ndarray] = load(content)
    except (SafetensorError, KeyError) as error:
        raise InputError(f"it is no file of safetensors ({error})") from error
    return tensors


def variables_from(weights: Weights, module: nn.Module, *arguments: Any, network: str) -> Variables:
    """Variables of a module whose submodules have PyTorch's names, as float32.

    Args:
        weights: tensors beside those of the module are left out.
        module: to initialise.
        arguments: of its call; only their shapes count.
        network: whose weights these are to be, for messages.

    Raises:
        InputError: naming the first tensor that is missing or has another shape.
    """

    def variable(path: Any, expected: jax.ShapeDtypeStruct) -> np.ndarray:
        *modules, leaf = (key.key for key in path[1:])
        name = ".".join([*modules, NAMES.get(leaf, leaf)])
        axes = (3, 2, 0, 1) if leaf == "kernel" else (0,)  # PyTorch's are OIHW, Flax's HWIO
        array = require(weights, name, tuple(expected.shape[axis] for axis in axes), network)
        return array.transpose(np.argsort(axes)).astype(np.float32)

    expected = jax.eval_shape(module.init, jax.random.key(0), *arguments)
    variables: Variables = jax.tree_util.tree_map_with_path(variable, expected)
    return variables


def require(weights: Weights, name: str, shape: tuple[int, ...], network: str) -> np.ndarray:
    """The tensor of that name.

    Raises:
        InputError: when it is missing, or of another shape.
    """
    array = weights.tensors.get(name)
    if array is None:
        raise InputError(f"{weights.path} is not {network}'s weights: lacks {name}.")
    if array.shape != shape:
        raise InputError(
            f"{weights.path} is not {network}'s weights: {name} has shape {array.shape}, "
            f"not {shape}."
        )
    return array
