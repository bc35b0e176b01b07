"""`avq compress` and `avq decompress`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avq.cli.app import StepOption, require_png, require_writable, verb
from avq.cli.codec import codec_of
from avq.cli.prior import PriorOption, opened_prior
from avq.errors import InputError

if TYPE_CHECKING:
    from avq.apply.codec.prior_codec import PriorCodec

Model = Annotated[
    Path | None,
    typer.Option(
        metavar="NAME|RUN",
        help="A model that comes with avq, the --workdir of a training run, or what avq export "
        "wrote. Default: photos, which comes with avq.",
    ),
]


@verb(
    "compress",
    examples=(
        "avq compress photo.jpg",
        "avq compress photo.jpg -o small.avq --model runs/ah",
        "avq compress face.png --prior runs/prior",
    ),
)
def compress(
    image: Annotated[Path, typer.Argument(metavar="IN", help="An image file.")],
    *,
    model: Model = None,
    prior: PriorOption = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Default: the image's name with .avq.")
    ] = None,
    step: StepOption = None,
) -> None:
    """Compresses an image of any size into a small file.

    The first time with a run, its codec is fitted to codes of the training images, which takes a
    minute or more, and written into its folder as codec.npz. Decompressing needs that file.

    With a prior, a transformer, the file is smaller, and takes longer. It goes with the model of
    the prior and images of its size.
    """
    from avq import cpu
    from avq.apply.codec.image_file import pack
    from avq.apply.codec.prior_codec import PriorCodec
    from avq.apply.codec.stored import Codec
    from avq.apply.completion import require_size
    from avq.apply.tokenizer import load
    from avq.json_files import replaced
    from avq.shipped import default
    from avq.trained import model_folder

    out = out or image.with_suffix(".avq")
    require_writable(out)
    cpu.keep_memory()
    codec: Codec | PriorCodec
    if prior is not None:
        codec = _prior_codec(prior, model, step)
        tokenizer = codec.prior.tokenizer
        ((codes, size),) = tokenizer.encode_sized([image])
        require_size(codec.prior, size)
    else:
        model = model or default()
        tokenizer = load(model, step)
        ((codes, size),) = tokenizer.encode_sized([image])
        codec = codec_of(model_folder(model), tokenizer)
    data = pack(codes, size, codec)
    with replaced(out) as new:
        new.write_bytes(data)
    levels = zip(codes, tokenizer.codebook_sizes, strict=True)
    plain = math.ceil(sum(grid.size * math.log2(size) for grid, size in levels) / 8)
    rate = f"{8 * len(data) / math.prod(size):.3f} bits a pixel"
    print(f"{out}: {len(data):,} bytes, {rate} (codes without entropy coding: {plain:,} bytes)")


@verb(
    "decompress",
    examples=(
        "avq decompress photo.avq",
        "avq decompress photo.avq -o photo.png --model runs/ah",
        "avq decompress face.avq -o face.png --prior runs/prior",
    ),
)
def decompress(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File of avq compress.")],
    *,
    model: Model = None,
    prior: PriorOption = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="A .png. Default: the file's name with .png, if free."),
    ] = None,
    step: StepOption = None,
) -> None:
    """Decompresses a file of avq compress into an image."""
    from avq import cpu
    from avq.apply.codec.image_file import read, unpack
    from avq.apply.codec.prior_codec import PriorCodec
    from avq.apply.codec.stored import FILE, Codec, read_codec
    from avq.apply.pictures import write_png
    from avq.apply.tokenizer import load
    from avq.shipped import default
    from avq.trained import model_folder

    if out is None:
        out = file.with_suffix(".png")
        if out.exists():
            raise InputError(f"{out} exists. Give -o, with its name to replace it.")
    require_png(out)
    data = read(file)
    cpu.keep_memory()
    codec: Codec | PriorCodec | None
    if prior is not None:
        codec = _prior_codec(prior, model, step)
        tokenizer = codec.prior.tokenizer
    else:
        model = model or default()
        tokenizer = load(model, step)
        if (codec := read_codec(model_folder(model), tokenizer)) is None:
            raise InputError(
                f"{str(model)!r} has no {FILE}. Put back the one that the file was compressed with."
            )
    codes, size = unpack(data, tokenizer, codec, str(file))
    (pixels,) = tokenizer.decode_each([codes], [size])
    write_png(out.parent, out.name, pixels)
    print(f"{out}: {size[1]}x{size[0]} pixels")


def _prior_codec(prior: Path, model: Path | None, step: int | None) -> "PriorCodec":
    """A prior as an entropy model."""
    from avq.apply.codec.prior_codec import PriorCodec
    from avq.apply.tokenizer import load

    tokenizer = None if model is None else load(model)
    return PriorCodec(opened_prior(prior, tokenizer, step))
