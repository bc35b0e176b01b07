"""Two thousand damaged inputs: each gives images or a reason, and costs nothing else."""

import io
import zipfile

import numpy as np
import pyarrow
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from pyarrow import parquet

from avq.data.dataset import ImageSet
from avq.data.images import UnreadableImage, decode, encode
from avq.data.pipeline import eval_batches
from avq.data.sources import open_source
from avq.errors import InputError

FORMATS = ("jpeg", "png", "gif", "webp", "tiff", "bmp", "ppm")
MUTANTS_OF_A_FORMAT, MUTANTS_OF_AN_ARCHIVE = 250, 90


def smooth(seed):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3)).astype(np.uint8))
    return coarse.resize((40, 32), Image.Resampling.BILINEAR)


def saved(image, file_format, **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def mutated(data, rng):
    """A copy with bytes changed, a piece cut out, doubled or zeroed, or the end cut off."""
    data = bytearray(data)
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.geometric(0.05)))
    kind = rng.integers(6)
    if kind == 0:
        del data[start:]
    elif kind == 1:
        del data[start:stop]
    elif kind == 2:
        data[start:start] = data[start:stop]
    elif kind == 3:
        data[start:stop] = bytes(stop - start)
    else:
        # Headers, where most of the harm is done, are hit as often as all the rest.
        span = min(len(data), 64) if kind == 4 else len(data)
        for at in rng.integers(span, size=rng.integers(1, 6)):
            data[at] = rng.integers(256)
    return bytes(data)


@pytest.mark.parametrize("file_format", FORMATS)
def test_mutated_image_is_an_image_or_unreadable(file_format):
    rng = np.random.default_rng(FORMATS.index(file_format))
    reasons, images = [], []
    for i in range(MUTANTS_OF_A_FORMAT):
        data = mutated(saved(smooth(i), file_format), rng)
        try:
            images.append(decode(data))
        except UnreadableImage as error:
            reasons.append(str(error))
    assert all((im.ndim, im.shape[2], im.dtype) == (3, 3, np.dtype(np.uint8)) for im in images)
    assert all("bytes: " in reason or "pixels" in reason for reason in reasons)
    assert not any("\n" in reason for reason in reasons)
    assert len(images) > 10
    assert len(reasons) > 10


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for i, data in enumerate(files):
            archive.writestr(
                f"{i}.png", data, zipfile.ZIP_DEFLATED if i % 2 else zipfile.ZIP_STORED
            )


def write_records(path, files):
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for data in files:
        writer.write(data)
    writer.close()


def write_parquet(path, files):
    rows = [{"bytes": data, "path": None} for data in files]
    parquet.write_table(pyarrow.table({"image": rows}), path, row_group_size=2)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.zip", write_zip), ("a.array_record", write_records), ("a.parquet", write_parquet)],
)
def test_mutated_archive_is_refused_or_loses_what_was_hit(tmp_path, name, write):
    rng = np.random.default_rng(len(name))
    path = tmp_path / name
    whole = [np.asarray(smooth(i)) for i in range(6)]
    write(path, [saved(smooth(i), "png") for i in range(6)])
    content = path.read_bytes()
    kept, refusals = 0, []
    for _ in range(MUTANTS_OF_AN_ARCHIVE):
        path.write_bytes(mutated(content, rng))
        try:
            source = open_source(str(path))
        except InputError as error:
            refusals.append(str(error))
            continue
        images = ImageSet(source, max_rejected=1.0)
        read = [images[i] for i in range(len(images))]
        assert len(images.rejected) == sum(image is None for image in read)
        readable = [image for image in read if image is not None]
        kept += sum(any(np.array_equal(image, w) for w in whole) for image in readable)
    assert all(name in reason and "\n" not in reason for reason in refusals)
    assert refusals
    assert kept > 0


def kinds():
    """One file of each troublesome kind: its bytes, and its pixels or None for a file that holds
    no image.
    """
    colours = smooth(0)
    pixels = np.asarray(colours)
    gray = np.asarray(colours.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = Image.fromarray(np.ascontiguousarray(pixels[::-1, ::-1]))
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    yield "truncated.jpg", saved(colours, "jpeg")[:-200], None
    yield "empty.png", b"", None
    yield "text.png", b"not a picture", None
    yield "bomb.png", saved(Image.new("1", (30_000, 30_000)), "png"), None
    yield "gray.png", saved(Image.fromarray(gray), "png"), np.stack([gray] * 3, axis=-1)
    yield "deep.png", saved(deep, "png"), np.stack([gray] * 3, axis=-1)
    quantized = colours.quantize(8)
    yield "palette.png", saved(quantized, "png"), np.asarray(quantized.convert("RGB"))
    opaque = colours.convert("RGBA")
    yield "alpha.png", saved(opaque, "png"), pixels
    yield "turned.png", saved(turned, "png", exif=exif), pixels
    yield "tiny.png", saved(colours.crop((0, 0, 1, 1)), "png"), pixels[:1, :1]
    frames = {"save_all": True, "append_images": [smooth(1)], "lossless": True}
    yield "moving.webp", saved(colours, "webp", **frames), pixels
    yield "plain.ppm.png", encode(pixels, "named"), pixels
    yield "\u6f22" * 60 + ".png", saved(colours, "png"), pixels


def test_one_file_of_each_kind_is_read_right_or_named(tmp_path):
    expected = {}
    for name, data, pixels in kinds():
        (tmp_path / name).write_bytes(data)
        expected[name] = pixels
    images = ImageSet(open_source(str(tmp_path)), max_rejected=1.0)
    assert len(images) == len(expected)
    for i in range(len(images)):
        name = images.source.name(i)
        if expected[name] is None:
            assert images[i] is None
        else:
            np.testing.assert_array_equal(images[i], expected[name], err_msg=name)
    assert set(images.rejected) == {name for name, pixels in expected.items() if pixels is None}
    real = sum(mask.sum() for _, mask in eval_batches(images, image_size=8, batch_size=4))
    assert real == len(images) - len(images.rejected)


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
    (tmp_path / "a.jpg").write_bytes(saved(smooth(0).convert("CMYK"), "jpeg", quality=95))
    read = open_source(str(tmp_path))[0].astype(int)
    assert np.abs(read - np.asarray(smooth(0))).mean() < 5


def test_file_without_permission_is_named(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.png").write_bytes(saved(smooth(0), "png"))
    images = ImageSet(open_source(str(tmp_path)), max_rejected=1.0)
    monkeypatch.setattr("builtins.open", refused)  # a test that runs as root may read everything
    assert images[0] is None
    assert images.rejected == {"a.png": "[Errno 13] Permission denied"}
