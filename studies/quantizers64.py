"""Quantisers and sizes of codebooks in `ah_vqvae_plus:tiny`, on faces of 64 pixels.

avq study studies/quantizers64.py --out studies/quantizers64 --data celeba=celeba_small.zip
"""

from avq.study import Study

PLUS = "ah_vqvae_plus:tiny"
VALUES = {256: (8, 8, 4), 1024: (8, 8, 4, 4), 4096: (8, 8, 8, 8), 16384: (8, 8, 8, 8, 4)}


def settings(quantizer: str, size: int) -> list[str]:
    """Settings of a quantiser that make it one of so many codes."""
    own = {
        "fsq": f"--config.model.fsq_levels={VALUES[size]}",
        "lfq": f"--config.model.bits={size.bit_length() - 1}",
        "bsq": f"--config.model.bits={size.bit_length() - 1}",
    }
    codes = own.get(quantizer, f"--config.model.codebook_size={size}")
    return [PLUS, f"--config.model.quantizer={quantizer}", codes]


KINDS = ("ema", "gradient", "diveq", "simvq", "residual", "product", "fsq", "lfq", "bsq")

STUDY = Study(
    systems={f"{kind} {size}": settings(kind, size) for size in VALUES for kind in KINDS},
    baseline="ema 256",
    data={"celeba": "celeba_small.zip"},
    steps=250,
    evaluations=1,
)
