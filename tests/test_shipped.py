"""Models that come with avq: by name, in Python and in every verb; the real one, if it is there."""

import numpy as np
import pytest
import skimage.data
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

import avq
from avq import shipped
from avq.apply.codec.stored import Codec, codec_bytes
from avq.apply.export import export
from avq.data.images import decode
from avq.errors import InputError

from .apply.codec.codec_helpers import random_network

ROOM = 6_000_000  # bytes of a model in the package
REAL = shipped.default()


@pytest.fixture
def photos(tokenizer, tmp_path, monkeypatch):
    """A small model under the name 'photos', and a working folder without anything of that name."""
    folder, here = tmp_path / "shipped", tmp_path / "here"
    codec = codec_bytes(Codec(tokenizer.digest, [random_network(0, 8)]))
    export(tokenizer.trained, folder / "photos", "# card\n", others={"codec.npz": codec})
    monkeypatch.setattr(shipped, "FOLDER", folder)
    here.mkdir()
    monkeypatch.chdir(here)
    return folder / "photos"


def test_model_is_loaded_by_its_name(photos, tokenizer):
    assert shipped.names() == ["photos"]
    assert avq.load("photos").digest == tokenizer.digest


def test_unknown_name_is_refused_with_the_nearest_and_the_list(photos, tokenizer):
    export(tokenizer.trained, photos.parent / "faces", "# card\n")
    with pytest.raises(InputError, match=r"did you mean 'photos'\? .* with avq: faces, photos\.$"):
        avq.load("photo")
    with pytest.raises(InputError, match=r"model: 'zebra'\. Give .*: faces, photos\.$"):
        avq.load("zebra")


def test_path_wins_over_a_name_and_says_what_it_hides(photos, tmp_path):
    (tmp_path / "here" / "photos").mkdir()
    with pytest.raises(InputError, match=r"'photos' is not a run.* It hides the model"):
        avq.load("photos")


def test_image_is_compressed_without_naming_a_model(invoke, photos, tokenizer, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 3), np.uint8)
    Image.fromarray(pixels).save("a.png")
    (tmp_path / "here" / "photos").mkdir()  # pictures of the user's
    for arguments in (("compress", "a.png"), ("decompress", "a.avq", "-o", "b.png")):
        result = invoke(*arguments)
        assert result.exit_code == 0, result.stderr
    (expected,) = tokenizer.reconstruct("a.png")
    np.testing.assert_array_equal(decode((tmp_path / "here" / "b.png").read_bytes()), expected)


def test_verbs_take_a_name_in_place_of_a_run(invoke, photos, image_folder):
    images = image_folder / "test"
    for arguments in (
        ("encode", "photos", images, "-o", "codes.npz"),
        ("eval", "photos", "--data", image_folder),
        ("export", "photos", "released"),
        ("compress", images / "16.png", "-o", "a.avq", "--model", "photos"),
        ("decompress", "a.avq", "-o", "a.png", "--model", "photos"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 0, result.stderr


@pytest.mark.skipif(not REAL.is_dir(), reason="the model of photographs is not in this checkout")
def test_model_of_photographs_is_small_and_compresses_what_it_has_not_seen(invoke, tmp_path):
    files = {path.name: path.stat().st_size for path in REAL.iterdir()}
    assert files.keys() >= {"README.md", "LICENSES.md", "codec.npz"}
    assert sum(files.values()) < ROOM
    photograph = skimage.data.chelsea()
    Image.fromarray(photograph).save(tmp_path / "a.png")
    for arguments in (("compress", "a.png"), ("decompress", "a.avq", "-o", "b.png")):
        verb, *names = (tmp_path / name if "." in name else name for name in arguments)
        result = invoke(verb, *names)
        assert result.exit_code == 0, result.stderr
    pixels = decode((tmp_path / "b.png").read_bytes())
    assert peak_signal_noise_ratio(photograph, pixels) > 25
    plain = avq.load("photos").bits_per_pixel * photograph[..., 0].size / 8
    assert (tmp_path / "a.avq").stat().st_size < 0.95 * plain
