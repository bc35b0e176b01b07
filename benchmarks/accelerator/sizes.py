"""What `benchmarks.gpu` measures: the paper's setting on an accelerator, a trial on a CPU."""

from dataclasses import dataclass

# By name: compute type, and precision of the products and convolutions that are in float32.
PRECISIONS = {
    "bf16": ("bfloat16", "default"),
    "tf32": ("float32", "tensorfloat32"),
    "fp32": ("float32", "highest"),
}
SYSTEMS = ("ah_vqvae", "h_vqvae", "a_vqvae", "ah_vqvae_plus", "vqvae", "ah3_vqvae")
BATCHES = (16, 32, 64, 128, 256)
FIRST = (2, 4, 8, 16, 32, 64)  # batches of which the largest that fits is varied
# Bytes an image of the paper's setting in bfloat16, ours and PyTorch's together, and some to spare.
IMAGE_BYTES = 3.5 * 2**30
# A system that compiles in seconds on a CPU.
SHRUNK = tuple(
    f"--config.{key}={value}"
    for key, value in {
        "data.image_size": 16,
        "data.batch_size": 4,
        "model.codebook_size": 8,
        "model.code_dim": 4,
        "model.base_filters": "(4,4)",
        "model.aren_filters": 4,
        "model.decoder_filters": "(4,4,4)",
        "model.width": 4,
        "model.attention_dim": 4,
        "model.encoder_blocks": 0,
        "model.decoder_blocks": 0,
        "discriminator.filters": "(4,4,1)",
        "discriminator.strides": "(2,2,1)",
        "optim.optimizer": "adam",
    }.items()
)


@dataclass(frozen=True)
class Sizes:
    """What is measured. The first system, batch and precision are the case that others vary.

    Attributes:
        systems: arguments of a config by name.
        batches: images in a batch.
        precisions: names in `PRECISIONS`.
        tokens: pixels of a grid, for attention.
        searches: tokens, codes and width of a search of the nearest code.
        run: arguments of the config of the short training.
        images: number of images that data is read from.
        steps: of a pass over data, and of a run that is repeated for its bits.
        runs: timed calls of each kind.
        torch_compile: whether to wait for the PyTorch twin's compilation.
        compile_s: seconds that compiling a training step takes, before that is known.
    """

    systems: dict[str, tuple[str, ...]]
    batches: tuple[int, ...]
    precisions: tuple[str, ...]
    tokens: tuple[int, ...]
    searches: tuple[tuple[int, int, int], ...]
    run: tuple[str, ...]
    images: int
    steps: int
    runs: int
    torch_compile: bool
    compile_s: float


def of_accelerator(memory: int) -> Sizes:
    """Sizes for an accelerator.

    Args:
        memory: bytes that JAX may have.
    """
    first = max((batch for batch in FIRST if batch * IMAGE_BYTES <= memory), default=FIRST[0])
    larger = [batch for batch in BATCHES if batch > first]
    smaller = [batch for batch in BATCHES if batch < first]
    return Sizes(
        systems={name: (f"--config={name}",) for name in SYSTEMS},
        batches=(first, *larger, *reversed(smaller)),
        precisions=("bf16", "tf32", "fp32"),
        tokens=(1024, 4096, 16384),
        searches=((65536, 16384, 64), (16384, 1024, 256), (4096, 262144, 32)),
        run=(
            "--config=ah_vqvae_plus:tiny",
            "--config.train.steps=2000",
            "--config.train.eval_every=200",
        ),
        images=512,
        steps=30,
        runs=10,
        torch_compile=True,
        compile_s=30,
    )


TRIAL = Sizes(
    systems={name: (f"--config={name}:tiny", *SHRUNK) for name in SYSTEMS},
    batches=(4, 8),
    precisions=("fp32", "bf16"),
    tokens=(64, 256),
    searches=((512, 256, 8),),
    run=(
        "--config=vqvae:tiny",
        *SHRUNK,
        "--config.train.steps=4",
        "--config.train.log_every=2",
        "--config.train.eval_every=2",
    ),
    images=40,
    steps=3,
    runs=2,
    torch_compile=False,
    compile_s=15,
)
