"""The paper's setting, and a small one for minutes on a CPU.

The files beside this one each name a system and set what makes it so. A config of one's own begins
with `from avq.configs import common`. Every setting, with its range and meaning:

    python -m avq.main --config=configs/ah_vqvae.py --help
"""

from typing import Any

from ml_collections import ConfigDict

from avq import tasks


def system(variant: str, **model: Any) -> ConfigDict:
    """A variant, 'paper' or 'tiny', with the given settings of the model."""
    variants = {"paper": paper, "tiny": tiny}
    if variant not in variants:
        raise ValueError(f"unknown variant {variant!r}; there are: {', '.join(variants)}")
    config = variants[variant]()
    config.model.update(model)
    return config


def paper() -> ConfigDict:
    """256-pixel faces, 24,000 for training, batch 10, 400 epochs, as in section 4 of the paper; see
    docs/PAPER.md for each choice. They are the defaults of the settings.
    """
    return tasks.defaults("autoencoder")


def tiny() -> ConfigDict:
    """64-pixel images, a tenth of the width, one stage less in the base: grids of 16x16 and 8x8
    codes.
    """
    config = paper()
    config.data.path = "photographs"
    config.data.image_size = 64
    config.data.batch_size = 8

    config.model.codebook_size = 256
    config.model.code_dim = 32
    config.model.base_filters = (16, 32)
    config.model.aren_filters = 64
    config.model.decoder_filters = (64, 32, 16)
    config.model.encoder_blocks = 1
    config.model.stride_at = "first"
    config.model.attention_dim = 32
    config.model.revive_below = 0.06  # short runs: dead codes have little time to come back

    config.discriminator.filters = (32, 32, 32, 32, 1)
    config.discriminator.strides = (2, 2, 2, 1, 1)

    config.loss.adversarial_weight = 0.02

    config.optim.optimizer = "muon"
    config.optim.learning_rate = 2e-3
    config.optim.discriminator_learning_rate = 2e-4
    config.optim.warmup = 50
    config.optim.decay = "cosine"
    config.optim.ema_decay = 0.99

    config.train.steps = 700
    config.train.log_every = 50
    config.train.eval_every = 350

    config.checkpoint.every = 200
    return config
