"""Reading weight files."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from avq.errors import InputError
from avq.networks.weights import read_weights

FILE = Path(__file__).parent / "files" / "zip.pth"


def test_tensors_of_several_files_are_joined_and_their_digests_named(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": np.arange(3.0), "whole": np.zeros(2)}, path)
    weights = read_weights(FILE, path)
    np.testing.assert_array_equal(weights.tensors["a"], [0, 1, 2])
    np.testing.assert_array_equal(weights.tensors["whole"], [0, 0])  # the later file's
    np.testing.assert_array_equal(weights.tensors["part"], [[4, 5, 6], [7, 8, 9]])
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (FILE, path)]
    assert weights.digest == "+".join(digests)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"no weights at all", bytes(100)])
def test_a_file_without_weights_is_refused_in_one_line(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    if content is not None:
        path.write_bytes(content)
    reason = "cannot be read" if content is None else "is not read"
    with pytest.raises(
        InputError, match=rf"weights{suffix} {reason}.*Give a \.safetensors"
    ) as error:
        read_weights(path)
    assert "\n" not in str(error.value)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(tmp_path)
