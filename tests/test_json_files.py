"""Files that are replaced in one step."""

import json
import os

import pytest

from avq.json_files import probe, replaced, write_json


def test_file_is_whole_before_and_after_and_nothing_else_is_left(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, [1])
    with replaced(file) as new:
        new.write_text("half")
        assert json.loads(file.read_text()) == [1]
    assert file.read_text() == "half"
    assert os.listdir(tmp_path) == ["a.json"]


def test_file_is_as_it_was_when_writing_fails(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, [1])
    with pytest.raises(TypeError):
        write_json(file, object())
    assert json.loads(file.read_text()) == [1]


def test_link_and_pipe_are_written_to_as_they_are(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_json(tmp_path / "link", [2])
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "target").read_text()) == [2]
    read, write = os.pipe()
    (tmp_path / "pipe").symlink_to(f"/dev/fd/{write}")
    write_json(tmp_path / "pipe", [3])
    assert json.loads(os.read(read, 100)) == [3]
    os.close(read)
    os.close(write)


def test_probe_leaves_no_trace_and_says_what_is_wrong(tmp_path):
    probe(tmp_path / "a.json")
    assert os.listdir(tmp_path) == []
    with pytest.raises(OSError, match="No such file"):
        probe(tmp_path / "nowhere" / "a.json")
