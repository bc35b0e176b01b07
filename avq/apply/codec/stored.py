"""The networks of a model's codec, in the file `codec.npz` of its folder."""

import hashlib
import io
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from avq.apply.codec.coder import Coder
from avq.apply.codec.network import Network
from avq.apply.npz import read_arrays
from avq.apply.tokenizer import Tokenizer
from avq.errors import InputError
from avq.json_files import replaced
from avq.storage.copies import put_back

FILE = "codec.npz"
FORMAT = 2  # of the file; 1 had a frequency for each code
MOST_BYTES = 1 << 28  # that its arrays may take
_NAMES = [field.name for field in fields(Network)]


@dataclass(frozen=True)
class Codec:
    """Networks that predict the codes of a model.

    Attributes:
        model: digest of the model.
        networks: of its levels, finest first.
    """

    model: str
    networks: list[Network]
    kind: ClassVar[str] = "codec"

    @cached_property
    def coder(self) -> Coder:
        """The entropy coder."""
        return Coder(self.networks)

    @property
    def sizes(self) -> list[int]:
        """Codes of each level's codebook."""
        return [len(network.ranks) for network in self.networks]

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that change with any of the integers."""
        sha = hashlib.sha256(self.model.encode())
        for network in self.networks:
            for name, values in network.arrays().items():
                sha.update(f"{name} {values.shape}".encode())
                sha.update(values.astype("<i4").tobytes())
        return sha.digest()


def codec_bytes(codec: Codec) -> bytes:
    """Content of the file."""
    arrays: dict[str, Any] = {
        f"level{level}_{name}": values.astype(np.int32)
        for level, network in enumerate(codec.networks, start=1)
        for name, values in network.arrays().items()
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, format=FORMAT, model=np.str_(codec.model), **arrays)
    return stream.getvalue()


def write_codec(folder: Path, codec: Codec) -> None:
    """Writes the file of a run."""
    with replaced(codec_file(folder)) as new:
        new.write_bytes(codec_bytes(codec))
    put_back(folder, FILE)


def codec_file(folder: Path) -> Path:
    """Where a run or a released folder keeps its codec."""
    return folder / FILE


def read_codec(folder: Path, tokenizer: Tokenizer) -> Codec | None:
    """The codec of a run or a released folder, or None when it has none.

    Args:
        folder: of the model.
        tokenizer: its model.

    Raises:
        InputError: for a file that is damaged or belongs to another model.
    """
    file, sizes, model = codec_file(folder), list(tokenizer.codebook_sizes), tokenizer.digest
    if not file.exists():
        return None
    arrays = read_arrays(file, "a codec", MOST_BYTES)
    if (number := int(arrays.get("format", 1))) != FORMAT:
        raise InputError(
            f"{str(file)!r} has format {number}, and this avq reads {FORMAT}. Move it away to fit "
            "another; files that were compressed with it need the avq that wrote it."
        )
    try:
        owner = str(arrays["model"])
        levels = range(1, len(sizes) + 1)
        each = [{name: arrays[f"level{n}_{name}"] for name in _NAMES} for n in levels]
    except KeyError as error:
        raise InputError(f"{str(file)!r} is damaged: no {error}. Put back a copy.") from error
    codec = Codec(owner, [Network(**one) for one in each])
    if owner != model:
        raise InputError(
            f"{str(file)!r} belongs to model {owner}, and this one is {model}. Give the checkpoint "
            "that it was fitted to (--step), or move the file away to fit another; files that were "
            "compressed with it need it."
        )
    parents = [*sizes[1:], -1]  # which leaves the coarsest level no row
    rows = [own + 1 + parent + 1 for own, parent in zip(sizes, parents, strict=True)]
    if codec.sizes != sizes or [len(each.embeddings) for each in codec.networks] != rows:
        raise InputError(f"{str(file)!r} is damaged: it is of other codebooks. Put back a copy.")
    return codec
