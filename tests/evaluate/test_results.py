"""Results of an evaluation."""

import jax.numpy as jnp
import numpy as np

from avq.evaluate.results import fingerprint


def test_fingerprints_tell_images_apart():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    brighter = image.copy()
    brighter[2, 3, 1] ^= 1
    flat = np.zeros_like(image)
    others = [image[::-1], image[:, ::-1], image[..., ::-1], brighter, flat, flat + 1]
    batch = jnp.asarray(np.stack([image, *others, image]))
    first, *rest, last = np.asarray(fingerprint(batch)).tolist()
    assert first == last
    assert len({first, *rest}) == 1 + len(rest)
