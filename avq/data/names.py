"""Hashes of the names of images, by which they are known again and drawn for a split."""

import base64
import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt64


def hash_names(names: Iterable[str], key: str = "") -> UInt64[np.ndarray, "n"]:
    """64-bit hashes of names.

    Args:
        names: any text.
        key: hashes under different keys are independent; up to 64 bytes.
    """
    secret = key.encode()

    def number(name: str) -> int:
        data = name.encode("utf-8", "surrogatepass")  # names of files need not be valid UTF-8
        digest = hashlib.blake2b(data, digest_size=8, key=secret).digest()
        return int.from_bytes(digest, "little")

    return np.fromiter(map(number, names), np.uint64)


def to_text(hashes: UInt64[np.ndarray, "n"]) -> str:
    """Hashes as base64, for a JSON file: 10.7 bytes an image."""
    return base64.b64encode(hashes.astype("<u8").tobytes()).decode()


def from_text(text: str) -> UInt64[np.ndarray, "n"]:
    """Reads what `to_text` wrote.

    Raises:
        ValueError: for any other text.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), "<u8").astype(np.uint64)
