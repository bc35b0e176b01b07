"""Released folders: the same model read back, and what is refused."""

import json
import os
import shutil

import chex
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import avq
from avq.apply import export as module
from avq.apply.codec.stored import Codec, codec_bytes, read_codec, write_codec
from avq.apply.export import export
from avq.errors import InputError

from .codec.codec_helpers import random_network


@pytest.fixture
def copy(released, tmp_path):
    shutil.copytree(released, tmp_path / "copy")
    return tmp_path / "copy"


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_folder_and_its_file_load_as_the_run_does_bit_for_bit(released, name, tokenizer, images):
    loaded = avq.load(released / name)
    assert (loaded.digest, repr(loaded)) == (tokenizer.digest, repr(tokenizer))
    chex.assert_trees_all_equal(loaded.trained.variables, tokenizer.trained.variables)
    codes = tokenizer.encode(images)
    chex.assert_trees_all_equal(loaded.encode(images), codes)
    chex.assert_trees_all_equal(loaded.decode(codes), tokenizer.decode(codes))


def test_folder_holds_the_averaged_autoencoder_and_nothing_of_its_training(released, tokenizer):
    assert set(content(released)) == {"config.json", "model.safetensors", "README.md"}
    tensors = load_file(released / "model.safetensors")
    assert {name.split("/")[0] for name in tensors} == {"params", "batch_stats", "codebook"}
    variables = tokenizer.trained.variables
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    assert len(leaves) == len(tensors)
    for path, leaf in leaves:
        name = "/".join(key.key for key in path)
        np.testing.assert_array_equal(tensors[name], leaf)


def test_config_has_no_path_and_no_names_of_images(released, image_folder):
    text = (released / "config.json").read_text()
    about = json.loads(text)
    assert str(image_folder) not in text
    assert about["dataset"]["name_hashes"] == {}
    assert about["dataset"]["counts"] == {"train": 16, "test": 4}
    assert about["data"]["image_size"] == about["dataset"]["size"] == 16
    assert (about["kind"], about["format"], about["step"]) == ("avq model", 1, 2)


def test_released_model_is_released_again_to_the_same_bytes(released, tmp_path):
    export(avq.load(released).trained, tmp_path / "again", "# card\n")
    assert content(tmp_path / "again") == content(released)


def test_own_folder_is_replaced_and_hidden_files_stay(copy, tokenizer, images):
    (copy / ".git").mkdir()
    (copy / "model.safetensors").write_bytes(b"words")
    export(tokenizer.trained, copy, "# other\n", [(images[0], images[1])])
    assert (copy / "README.md").read_text() == "# other\n"
    assert (copy / "samples.png").is_file()
    assert avq.load(copy).digest == tokenizer.digest
    export(tokenizer.trained, copy, "# third\n")
    assert {path.name for path in copy.iterdir()} == {
        ".git", "config.json", "model.safetensors", "README.md"
    }  # fmt: skip


def test_codec_goes_with_the_model_and_goes_away_with_it(copy, tokenizer, tmp_path):
    codec = Codec(tokenizer.digest, [random_network(0, 8)])
    export(tokenizer.trained, copy, "# card\n", others={"codec.npz": codec_bytes(codec)})
    again = read_codec(copy, avq.load(copy))
    assert again is not None
    assert again.digest == codec.digest
    write_codec(tmp_path, codec)
    assert (copy / "codec.npz").read_bytes() == (tmp_path / "codec.npz").read_bytes()
    export(tokenizer.trained, copy, "# card\n")
    assert read_codec(copy, avq.load(copy)) is None


@pytest.mark.parametrize("names", [["README.md"], ["config.json"], ["model.safetensors", "a.py"]])
def test_folder_of_anything_else_is_refused_and_left_alone(tokenizer, tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("{}")
    before = content(tmp_path)
    with pytest.raises(InputError, match="neither an empty folder nor one that avq export wrote"):
        export(tokenizer.trained, tmp_path, "# card\n")
    assert content(tmp_path) == before


def test_run_is_no_folder_to_export_to(tokenizer, run):
    with pytest.raises(InputError, match="neither an empty folder"):
        export(tokenizer.trained, run, "# card\n")


@pytest.mark.parametrize("calls", [0, 1, 2])
@pytest.mark.parametrize("fresh", [True, False])
def test_killed_anywhere_it_is_refused_or_whole_and_the_same_call_mends_it(
    tokenizer, released, tmp_path, monkeypatch, calls, fresh
):
    class Killed(BaseException):
        pass

    def replace_some(*paths):
        if len(done) == calls:
            raise Killed
        done.append(paths)
        replace(*paths)

    done, replace = [], os.replace
    folder = tmp_path / "model"
    if not fresh:
        shutil.copytree(released, folder)
        about = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(about | {"digest": "of another"}))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_some)
        with pytest.raises(Killed):
            export(tokenizer.trained, folder, "# card\n")
    with pytest.raises(InputError, match="its digest is" if not fresh else "is not a run"):
        avq.load(folder)
    export(tokenizer.trained, folder, "# card\n")
    assert content(folder) == content(released)


def test_file_that_cannot_be_written_is_one_line(tokenizer, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_tensors", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        export(tokenizer.trained, tmp_path / "model", "# card\n")


def change(**values):
    def write(folder):
        about = json.loads((folder / "config.json").read_text())
        for key, value in values.items():
            section = about
            *outer, name = key.split("__")
            for part in outer:
                section = section[part]
            section[name] = value
        (folder / "config.json").write_text(json.dumps(about))

    return write


def flip_a_weight(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_weight, r"is damaged: its digest is \w{16}, and config.json says"),
        (cut, r"model\.safetensors' is damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), "there is no file"),
        (change(format=2), "format 2, newer than this avq"),
        (change(format="x"), "format 'x', newer than this avq"),
        (change(digest=None), "'digest' is missing"),
        (change(dataset=[]), "'dataset' is missing"),
        (change(model__codebook_size=9), "of the model that its config describes: codebook"),
        (change(model__codebook_size="9"), "codebook_size"),
        (change(model__levels=1), "is not of the model that its config describes"),
        (change(model__more=1), "no value 'model.more'"),
        (change(model__dtype="bfloat16"), "its digest is"),
        (change(model__base_filters=[4] * 4000), "image_size"),
        (change(data__image_size=20), "image_size"),
        (lambda folder: (folder / "config.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "config.json").write_text("[" * 10**5), "is damaged"),
        (lambda folder: (folder / "config.json").write_text(" " * 10**7), "it is no config"),
    ],
)  # fmt: skip
def test_damaged_folder_is_refused_in_one_line(copy, damage, message):
    damage(copy)
    with pytest.raises(InputError, match=message) as error:
        avq.load(copy)
    assert "\n" not in str(error.value)


def test_file_without_its_config_is_refused(copy):
    (copy / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config\.json of a released model beside it"):
        avq.load(copy / "model.safetensors")


def test_step_that_was_not_released_is_refused(released):
    assert avq.load(released, step=2).trained.step == 2
    with pytest.raises(InputError, match="has no step 1, but 2 alone"):
        avq.load(released, step=1)


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such run, folder, file or model: "):
        avq.load(tmp_path / "none")
    with pytest.raises(InputError, match="no such run, folder, file or model: "):
        avq.load(tmp_path / "none.safetensors")
