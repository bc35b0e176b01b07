"""Compressed images: the bytes of a `.avq` file.

`AVQ` and the format's number (4 bytes), 2, or 3 for codes that a prior predicts; CRC-32 of all that
follows (4, little-endian); the first bytes of the digests of the model (4) and of its codec or of
the prior (4); twice the height in pixels, 1 more where
the codes are plain, and the width (1 to 4 bytes each, seven bits a byte, lowest first); the codes,
entropy-coded or plain, whichever is smaller, to the end.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from avq.apply.codec.plain import plain_bytes, plain_codes, plain_length
from avq.apply.codec.prior_codec import PriorCodec
from avq.apply.codec.stored import Codec
from avq.apply.tokenizer import Codes, Size, Tokenizer
from avq.data.images import MAX_PIXELS
from avq.errors import InputError

MAGIC = {"codec": b"AVQ\x02", "prior": b"AVQ\x03"}  # by what predicts the codes
_SIZE = 16  # where the size begins
MOST_BYTES = 1 << 28  # of a file


def pack(codes: Sequence[Int[np.ndarray, "_h _w"]], size: Size, codec: Codec | PriorCodec) -> bytes:
    """The file of an image.

    Args:
        codes: grids, finest level first.
        size: height and width in pixels.
        codec: of the model; that of a prior for an image of the prior's size.
    """
    content, sizes = codec.coder.encode(codes), codec.sizes
    if is_plain := plain_length([grid.shape for grid in codes], sizes) < len(content):
        content = plain_bytes(codes, sizes)
    body = _digests(codec) + _varint(2 * size[0] + is_plain) + _varint(size[1]) + content
    return MAGIC[codec.kind] + zlib.crc32(body).to_bytes(4, "little") + body


def read(file: Path) -> bytes:
    """Content of a file.

    Raises:
        InputError: when it cannot be read, or is too large to be one of `pack`.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{str(file)!r} cannot be read ({error.strerror}).") from error
    if len(data) > MOST_BYTES:
        raise InputError(f"{str(file)!r} has over {MOST_BYTES:,} bytes, too many for an image.")
    return data


def unpack(
    data: bytes, tokenizer: Tokenizer, codec: Codec | PriorCodec, name: str
) -> tuple[Codes, Size]:
    """Codes and size of an image from its file.

    Args:
        data: of the file.
        tokenizer: the model.
        codec: of the model, or of a prior.
        name: of the file, for errors.

    Raises:
        InputError: for bytes that are no such file, damaged, or of another model or codec.
    """
    _require_format(data[:4], codec, name)
    if len(data) < _SIZE or int.from_bytes(data[4:8], "little") != zlib.crc32(data[8:]):
        raise InputError(f"{name!r} is damaged: its checksum is wrong. Put back a copy.")
    for what, theirs, ours in zip(
        ("model", codec.kind), _halves(data[8:_SIZE]), _halves(_digests(codec)), strict=True
    ):
        if theirs != ours:
            raise InputError(
                f"{name!r} was compressed with {what} {theirs.hex()}, and this one is "
                f"{ours.hex()}. Give the one that it was compressed with."
            )
    size, is_plain, start = _read_size(data)
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise InputError(f"{name!r} is damaged: {size[1]}x{size[0]} pixels are none or too many.")
    rest, shapes = data[start:], tokenizer.grids(*size)
    try:
        if is_plain:
            return plain_codes(rest, shapes, codec.sizes), size
        return codec.coder.decode(rest, shapes), size
    except InputError as error:
        raise InputError(f"{name!r} is damaged: {error}. Put back a copy.") from error


def _require_format(magic: bytes, codec: Codec | PriorCodec, name: str) -> None:
    if magic[:3] != MAGIC["codec"][:3]:
        raise InputError(f"{name!r} is no file of avq compress.")
    if magic < MAGIC["codec"]:
        raise InputError(f"{name!r} is of an older avq. Decompress it with that one.")
    if magic > MAGIC["prior"]:
        raise InputError(f"{name!r} has a format that this avq does not know. Update avq.")
    if magic != MAGIC[codec.kind]:
        how = "without --prior" if codec.kind == "prior" else "with --prior"
        raise InputError(f"{name!r} was compressed {how}. Decompress it so.")


def _digests(codec: Codec | PriorCodec) -> bytes:
    return bytes.fromhex(codec.model)[:4] + codec.digest[:4]


def _varint(value: int) -> bytes:
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(high) if high else bytes([low])


def _halves(digests: bytes) -> tuple[bytes, bytes]:
    return digests[:4], digests[4:]


def _read_size(data: bytes) -> tuple[Size, bool, int]:
    """Height and width, whether the codes are plain, and where they begin."""
    values, start = [], _SIZE
    for _ in range(2):
        value = shift = 0
        more = True
        while more and shift < 28:
            byte = data[start] if start < len(data) else 0
            value |= (byte & 0x7F) << shift
            more, shift, start = byte > 0x7F, shift + 7, start + 1
        values.append(value)
    return (values[0] // 2, values[1]), bool(values[0] % 2), start
