"""The codec of a model, for the verbs that need one."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from avq.cli.app import progress, require_writable
from avq.errors import InputError

if TYPE_CHECKING:
    from avq.apply.codec.stored import Codec
    from avq.apply.tokenizer import Tokenizer


def codec_of(folder: Path, tokenizer: "Tokenizer") -> "Codec":
    """The codec in a model's folder; that of a run is fitted, and written there, if it has none.

    Raises:
        InputError: for one that is damaged or of another model, a released folder without one, and
            a run whose training images are gone.
    """
    from avq.apply.codec.fitting import fit
    from avq.apply.codec.stored import FILE, Codec, codec_file, read_codec, write_codec
    from avq.apply.codec.training_codes import training_codes
    from avq.trained import is_released

    if codec := read_codec(folder, tokenizer):
        return codec
    if is_released(folder):
        raise InputError(
            f"{str(folder)!r} was released without {FILE}, which is fitted to training images. "
            "Export the run again with --codec."
        )
    require_writable(codec_file(folder))
    print(f"{codec_file(folder)}: fitted now, once, to codes of training images", file=sys.stderr)
    with progress() as (on_total, on_images):
        codes = training_codes(tokenizer, on_total, on_images)
    with progress("step") as (on_total, on_steps):
        codec = Codec(tokenizer.digest, fit(codes, tokenizer.codebooks, on_total, on_steps))
    write_codec(folder, codec)
    return codec
