"""Files of named arrays: what is written is read, and nothing else is."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from avq.errors import InputError
from avq.tensor_file import MAX_HEADER, read_tensors, write_tensors

TENSORS = {
    "params/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "params/bias": np.array([1.5, -2], np.float32),
    "codebook/count": np.array(7, np.int32),
}


def described(tensors):
    return {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in tensors.items()}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    write_tensors(path, TENSORS)
    return path


def test_what_is_written_is_read_here_and_by_the_format_s_own_library(file):
    for found in (read_tensors(file, described(TENSORS)), load_file(file)):
        assert found.keys() == TENSORS.keys()
        for name, array in TENSORS.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


def test_transposed_array_keeps_its_values(tmp_path):
    kernel = np.arange(36, dtype=np.float32).reshape(1, 4, 3, 3).transpose(2, 3, 1, 0)
    write_tensors(tmp_path / "a.safetensors", {"kernel": kernel})
    np.testing.assert_array_equal(load_file(tmp_path / "a.safetensors")["kernel"], kernel)


def test_file_has_the_permissions_of_any_other(file, tmp_path):
    (tmp_path / "other").write_text("words")
    assert file.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_every_shortened_file_is_refused_in_one_line(file, tmp_path):
    content, damaged = file.read_bytes(), tmp_path / "damaged.safetensors"
    for length in range(len(content)):
        damaged.write_bytes(content[:length])
        with pytest.raises(
            InputError, match=r"^'[^\n]*' is damaged \([^\n]*\)\. Put back a copy\.$"
        ):
            read_tensors(damaged, described(TENSORS))


def test_long_header_is_refused_before_it_is_read(tmp_path, monkeypatch):
    bomb = tmp_path / "bomb.safetensors"
    with bomb.open("wb") as stream:
        stream.write((1 << 40).to_bytes(8, "little"))
        stream.truncate(1 << 40)  # sparse
    with pytest.raises(InputError, match=f"header of {1 << 40:,} bytes, over {MAX_HEADER:,}"):
        read_tensors(bomb, described(TENSORS))


def test_no_more_is_read_than_the_expected_tensors_take(tmp_path):
    header = json.dumps({"a": {"dtype": "U8", "shape": [1 << 40], "data_offsets": [0, 1 << 40]}})
    bomb = tmp_path / "bomb.safetensors"
    with bomb.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header.encode())
        stream.truncate(1 << 40)
    with pytest.raises(InputError, match="describes: it has over 108 bytes of tensors"):
        read_tensors(bomb, described(TENSORS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"params/bias": np.zeros(1, np.float32)},
            r"params/bias is float32 \(1,\), not float32 \(2,\)",
        ),
        (
            {"params/bias": np.zeros(2, np.int32)},
            r"params/bias is int32 \(2,\), not float32 \(2,\)",
        ),
        ({"params/bias": None}, "it lacks params/bias"),
        ({"params/bias": None, "other": np.zeros(2, np.float32)}, "it has other, too"),
    ],
)
def test_other_tensors_are_refused_by_name(tmp_path, changes, message):
    there = {name: array for name, array in (TENSORS | changes).items() if array is not None}
    save_file(there, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=message):
        read_tensors(tmp_path / "a.safetensors", described(TENSORS))


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_tensors(tmp_path / "a.safetensors", {})
