"""`avq encode`, `avq decode`, `avq reconstruct`: files of images to codes and back."""

import io
import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from avq.apply.code_files import read_codes
from avq.data.images import decode
from avq.errors import InputError

SIZES = {"a.png": (16, 16), "b/c.jpg": (9, 40), "b/d.webp": (33, 5), "e.png": (1, 1)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Four images of several sizes and kinds of file."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "b").mkdir()
    rng = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def encoded(invoke, run, photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("codes") / "codes.npz"
    result = invoke("encode", run, photos, "-o", out)
    assert result.exit_code == 0, result.stderr
    assert "codes of 4 images, 782 pixels at 0.188 bits each" in result.stdout
    return out


def read(folder):
    found = sorted(folder.rglob("*.png"))
    return {str(file.relative_to(folder)): decode(file.read_bytes()) for file in found}


def test_decoded_images_are_the_reconstructed_ones(
    invoke, released, photos, encoded, tmp_path, tokenizer
):
    result = invoke("decode", released, encoded, "-o", tmp_path / "decoded")
    assert result.exit_code == 0, result.stderr
    decoded = read(tmp_path / "decoded")
    expected = {f"{name.rsplit('.', 1)[0]}.png": size for name, size in SIZES.items()}
    assert {name: pixels.shape[:2] for name, pixels in decoded.items()} == expected
    sheet = tmp_path / "sheet.png"
    result = invoke("reconstruct", released, photos, "-o", tmp_path / "again", "--sheet", sheet)
    assert result.exit_code == 0, result.stderr
    again = read(tmp_path / "again")
    assert again.keys() == decoded.keys()
    for name, pixels in decoded.items():
        np.testing.assert_array_equal(again[name], pixels)
    (whole,) = tokenizer.reconstruct(photos / "a.png")
    np.testing.assert_array_equal(decoded["a.png"], whole)
    with Image.open(sheet) as picture:
        assert picture.size == (4 * 40, 2 * 40)


def test_file_holds_the_smallest_integers_and_says_what_it_is_of(encoded, tokenizer):
    with np.load(encoded, allow_pickle=False) as arrays:
        assert arrays["level1"].dtype == np.uint8
        assert set(arrays["names"]) == set(SIZES)
        assert str(arrays["model"]) == tokenizer.digest
        cells = sum(-(-h // 8) * 2 * -(-w // 8) * 2 for h, w in SIZES.values())
        assert arrays["level1"].shape == (cells,)


def test_images_come_from_files_patterns_and_archives(invoke, released, photos, tmp_path):
    archive = tmp_path / "more.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(photos / "a.png", "z/a.png")
    out = tmp_path / "codes.npz"
    sources = (photos / "a.png", f"{photos}/b/*.jpg", archive)
    result = invoke("encode", released, *sources, "-o", out)
    assert result.exit_code == 0, result.stderr
    with np.load(out) as arrays:
        assert list(arrays["names"]) == ["a.png", "c.jpg", "z/a.png"]


def rewritten(file, target, **changes):
    """Copies a file of codes with other arrays; None leaves one out."""
    with np.load(file) as arrays:
        content = {**dict(arrays), **changes}
    np.savez(target, **{name: value for name, value in content.items() if value is not None})
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": None}, "it has no 'names'"),
        ({"level1": None}, "it has no 'level1'"),
        ({"level1": np.zeros(108, np.float32)}, "it has no 'level1'"),
        ({"level1": np.zeros(5, np.uint8)}, "5 codes of level 1, where its sizes need"),
        ({"level1": np.full(80, 8, np.uint8)}, r"level 1 are not all in 0\.\.7"),
        ({"sizes": np.zeros((4, 2), np.int32)}, r"damaged: 4 names, sizes \(4, 2\)"),
        ({"sizes": np.ones((3, 2), np.int32)}, r"damaged: 4 names, sizes \(3, 2\)"),
        ({"model": np.str_("0" * 16)}, "was encoded by model 0000000000000000, and this one"),
        ({"names": np.array(["x.png", "x.jpg", "c", "d"])}, r"2 images would be called 'x.png'"),
        ({"names": np.array(["../x.png", "b", "c", "d"])}, r"'../x.png' is no name of a file"),
        ({"names": np.array(["/x.png", "b", "c", "d"])}, r"'/x.png' is no name of a file"),
        ({"names": np.array(["C:/x.png", "b", "c", "d"])}, r"'C:/x.png' is no name of a file"),
    ],
)
def test_file_that_is_not_the_models_is_refused(
    invoke, released, encoded, tmp_path, changes, message
):
    wrong = rewritten(encoded, tmp_path / "wrong.npz", **changes)
    result = invoke("decode", released, wrong, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert re.search(message, result.stderr)
    assert not (tmp_path / "out").exists()


def test_every_shortened_or_changed_file_gives_a_line_or_the_codes(encoded, tokenizer, tmp_path):
    content = encoded.read_bytes()
    expected = read_codes(encoded, tokenizer)
    file = tmp_path / "damaged.npz"
    rng = np.random.default_rng(0)
    cut = [content[:length] for length in range(0, len(content), 37)]
    flipped = [bytearray(content) for _ in range(60)]
    for damaged, place in zip(flipped, rng.integers(0, len(content), 60), strict=True):
        damaged[place] ^= 0xFF
    for damaged in (*cut, *flipped):
        file.write_bytes(damaged)
        try:
            found = read_codes(file, tokenizer)
        except InputError:
            continue
        assert found.sizes == expected.sizes
        for ours, theirs in zip(found.codes, expected.codes, strict=True):
            np.testing.assert_array_equal(ours[0], theirs[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("encode", "{model}", "{photos}/b/none.jpg", "-o", "{tmp}/c.npz"), "no such file"),
        (("encode", "{model}", "{photos}/a.png", "-o", "{tmp}/no/c.npz"), "there is no folder"),
        (("encode", "{model}", "{photos}", "{photos}", "-o", "{tmp}/c.npz"), "would be called"),
        (("encode", "{tmp}", "{photos}", "-o", "{tmp}/c.npz"), "is not a run"),
        (("decode", "{model}", "{tmp}/none.npz", "-o", "{tmp}/o"), "none.npz' cannot be read"),
        (("decode", "{model}", "{photos}/a.png", "-o", "{tmp}/o"), "a.png' is no file of codes"),
        (("reconstruct", "{model}", "{photos}", "-o", "{photos}/a.png"), "cannot be made"),
    ],
)
def test_what_cannot_be_done_gets_one_line(invoke, released, photos, tmp_path, arguments, message):
    places = {"model": released, "photos": photos, "tmp": tmp_path}
    result = invoke(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert not list(tmp_path.glob("c.npz*"))


def test_image_that_cannot_be_read_is_named_and_nothing_is_written(invoke, released, tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "png")
    (tmp_path / "a.png").write_bytes(file.getvalue()[:-30])
    result = invoke("encode", released, tmp_path / "a.png", "-o", tmp_path / "codes.npz")
    assert result.exit_code == 2
    assert "'a.png' is no image that can be read" in result.stderr
    assert not list(tmp_path.glob("codes.npz*"))
