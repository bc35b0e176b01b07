"""Files that PyTorch wrote (see `make_files.py`), and files made to do harm."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avq.errors import InputError
from avq.networks.torch_file import read_tensors

FILES = Path(__file__).parent / "files"


@pytest.mark.parametrize("name", ["zip", "stream"])
def test_tensors_are_those_that_pytorch_wrote(name):
    tensors = read_tensors((FILES / f"{name}.pth").read_bytes())
    shapes = {"0.weight": (3, 2, 1, 1)} | dict.fromkeys(
        ["0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"], (3,)
    )
    for number, (key, shape) in enumerate(shapes.items()):
        expected = np.arange(np.prod(shape)).reshape(shape) / 4 + number
        np.testing.assert_array_equal(tensors.pop(key), expected)
    others: dict[str, Any] = {
        "1.num_batches_tracked": 6,
        "half": [0.5, -2],
        "bfloat16": [1.5, -3],
        "double": [0.1],
        "scalar": 7,
        "part": [[4, 5, 6], [7, 8, 9]],
        "whole": range(12),
        "parameter": [1, 2],
    }
    assert set(tensors) == set(others)
    for key, values in others.items():
        assert tensors[key].shape == np.shape(values)
        np.testing.assert_array_equal(tensors[key].astype(np.float64), values)


class Harm:
    """Makes a folder when unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def in_zip(content, **entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/data.pkl", content)
        for name, data in entries.items():
            archive.writestr(f"net/data/{name}", data)
    return file.getvalue()


@pytest.mark.parametrize("wrapped", [in_zip, bytes], ids=["zip", "stream"])
def test_nothing_in_a_file_is_executed(tmp_path, wrapped):
    content = pickle.dumps({"weight": Harm(tmp_path / "harm")}, protocol=2)
    with pytest.raises(InputError, match="holds more than tensors"):
        read_tensors(wrapped(content))
    assert not (tmp_path / "harm").exists()
    pickle.loads(content)  # it would have worked
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["zip", "stream"])
def test_a_file_that_is_cut_off_is_refused(name):
    content = (FILES / f"{name}.pth").read_bytes()
    for length in range(0, len(content) - 1, 97):
        with pytest.raises(InputError):
            read_tensors(content[:length])


@pytest.mark.parametrize("name", ["zip", "stream"])
def test_a_file_with_changed_bytes_is_read_or_refused(name):
    content = (FILES / f"{name}.pth").read_bytes()
    rng = np.random.default_rng(0)
    read = refused = 0
    for _ in range(200):
        changed = bytearray(content)
        changed[rng.integers(len(content))] = rng.integers(256)
        try:
            tensors = read_tensors(bytes(changed))
        except InputError:
            refused += 1
        else:
            assert all(isinstance(tensor, np.ndarray) for tensor in tensors.values())
            read += 1
    assert read > 0
    assert refused > 0


def test_a_compressed_file_is_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("net/data/0", bytes(100_000))
    with pytest.raises(InputError, match="compressed"):
        read_tensors(file.getvalue())


def test_values_that_would_exhaust_memory_or_stack_are_refused():
    nested = b"(" * 50_000 + b"t" * 50_000  # a tuple in a tuple, and so on
    persistent = b"(U\x07storage" + nested + b"U\x010tQ."
    with pytest.raises(InputError, match="names that are no text"):
        read_tensors(in_zip(b"\x80\x02" + persistent))
    shape = b"(](K\x00eJ\xff\xff\xff\x7ft"  # ([0], 2**31 - 1)
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00" + shape + b")tR."
    with pytest.raises(InputError, match="more than tensors"):
        read_tensors(in_zip(b"\x80\x02" + tensor))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((FILES / "transposed.pth").read_bytes(), "not contiguous"),
        ((FILES / "module.pth").read_bytes(), r"more than tensors \(operation NEWOBJ\)"),
        (in_zip(pickle.dumps([1, 2], protocol=2)), "no tensors by name"),
        (in_zip(pickle.dumps({1: 2}, protocol=2)), "names that are no text"),
        (b"", "damaged"),
        (b"no weights", "damaged"),
    ],
)
def test_other_files_are_refused(content, message):
    with pytest.raises(InputError, match=message):
        read_tensors(content)
