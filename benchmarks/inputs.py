"""What studies feed to a system."""

from typing import Any

import numpy as np


def random_images(config: Any) -> np.ndarray:
    """A batch of random pixels, uint8, as large as the config's."""
    size, batch = config.data.image_size, config.data.batch_size
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)).astype(np.uint8)
