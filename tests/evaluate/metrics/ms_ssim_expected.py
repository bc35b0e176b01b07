"""Multi-scale structural similarity of fixed images, as torchmetrics computes it.

`python -m tests.evaluate.metrics.ms_ssim_expected` printed EXPECTED, with torchmetrics 1.9.0 and
torch 2.13.0, in float64.
"""

import numpy as np

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SCALES = {64: 3, 180: 5}  # by side
EXPECTED = {
    64: [0.9970997915922633, 0.9408302376736507, 0.5829266834359286],
    180: [0.9980932863168653, 0.9573650327585277, 0.6680736046045059],
}


def fixed_pictures(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Three images, 0..255, and noisier and noisier copies of them. No random numbers, so that they
    are the same with any version of NumPy.
    """
    row, column, channel = np.meshgrid(*map(np.arange, (side, side, 3)), indexing="ij")
    pattern = np.sin(row / 9 + channel) * np.cos(column / 13) + ((row // 16 + column // 16) % 2)
    target = np.broadcast_to(60 + 60 * pattern, (3, side, side, 3))
    noise = np.arange(target.size).reshape(target.shape) * 2654435761 % 2**32 / 2**32 - 0.5
    image = target + noise * np.array([10, 60, 300])[:, None, None, None]
    first, second = (np.clip(np.round(x), 0, 255).astype(np.uint8) for x in (image, target))
    return first, second


def by_torchmetrics(side: int) -> list[float]:
    """With the weights of the scales that fit into the images."""
    import torch
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    weights = np.array(WEIGHTS[: SCALES[side]])
    images = (torch.from_numpy(x / 255).permute(0, 3, 1, 2) for x in fixed_pictures(side))
    values: list[float] = multiscale_structural_similarity_index_measure(
        *images,
        data_range=1.0,
        betas=tuple((weights / weights.sum()).tolist()),
        normalize="relu",
        reduction="none",
    ).tolist()
    return values


if __name__ == "__main__":
    for side in SCALES:
        print(f"    {side}: {by_torchmetrics(side)},")
