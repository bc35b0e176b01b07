"""Codes of a set by several workers: the bytes of one call, as a folder and as a file."""

import functools

import pytest

from avq import parallel
from avq.apply import tokenize as module
from avq.apply.code_shards import read
from avq.errors import InputError
from avq.workers import Worker


@pytest.fixture(scope="module")
def tokenized(tokenizer, image_folder, tmp_path_factory):
    """Tokenizes the twenty images into shards of eight, below a folder of the module's."""
    folder, encoder = tmp_path_factory.mktemp("tokenized"), functools.cache(module._Encoder)
    mesh = parallel.make_mesh(1)

    def call(name, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "IMAGES_PER_SHARD", 8)
            patch.setattr(module, "_Encoder", encoder)
            path = str(options.pop("path", image_folder))
            about = module.tokenize(tokenizer, path, folder / name, mesh=mesh, **options)
        return about, folder / name

    return call


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("order", [[0], [2, 0, 1, 0], [3, 7, 0, 4, 2, 1, 6, 5]])
def test_any_workers_in_any_order_and_twice_end_in_the_bytes_of_one_call(tokenized, order):
    count = max(order) + 1
    for index in order:
        about, target = tokenized(f"of {count}", worker=Worker(index, count))
        assert about == {"rejected": []}
    with pytest.raises(InputError, match="After workers, run it with --finish"):
        read(target, "train")
    about, _ = tokenized(f"of {count}", finish=True)
    whole, undisturbed = tokenized("whole")
    assert about == whole
    assert content(target) == content(undisturbed)
    assert tokenized(f"of {count}", finish=True) == (whole, target)
    assert tokenized(f"of {count}", worker=Worker(0, 5)) == (whole, target)


def test_file_is_written_at_the_end(tokenized):
    for index in (1, 0):
        with pytest.raises(InputError, match="shards are missing: train-00000-of-00002"):
            tokenized("codes.npz", finish=True)
        about, file = tokenized("codes.npz", worker=Worker(index, 2))
        assert (about, file.exists()) == ({"rejected": []}, False)
    about, _ = tokenized("codes.npz", finish=True)
    whole, undisturbed = tokenized("whole.npz")
    assert about == whole
    assert file.read_bytes() == undisturbed.read_bytes()
    assert tokenized("codes.npz", finish=True) == tokenized("codes.npz", worker=Worker(1, 2))
    assert not file.with_name("codes.npz.shards").exists()


def test_worker_of_other_images_is_refused_and_unreadable_ones_are_left_out(
    tokenized, image_folder, tmp_path
):
    for path in image_folder.rglob("*.png"):
        copy = tmp_path / path.relative_to(image_folder)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(b"words" if path.name == "03.png" else path.read_bytes())
    options = {"path": tmp_path, "max_rejected": 0.1}
    (about, _) = tokenized("mended", worker=Worker(0, 2), **options)
    assert [entry["name"] for entry in about["rejected"]] == ["train/03.png"]
    (about, target) = tokenized("mended", worker=Worker(1, 2), **options)
    assert about["rejected"] == []
    before = sorted(path.name for path in target.rglob("*"))
    (tmp_path / "test" / "more.png").write_bytes((image_folder / "train" / "03.png").read_bytes())
    with pytest.raises(InputError, match="was begun with another source"):
        tokenized("mended", worker=Worker(1, 2), **options)
    (tmp_path / "test" / "more.png").unlink()
    with pytest.raises(InputError, match="1 of 16 images are unreadable"):
        tokenized("mended", path=tmp_path, max_rejected=0.01, finish=True)
    assert sorted(path.name for path in target.rglob("*")) == before
    assert tokenized("mended", finish=True, **options)[0]["counts"] == {"train": 15, "test": 4}
