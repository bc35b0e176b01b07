"""Every value a run reads: the paper's setting, and a small one for minutes on a CPU.

The files beside this one each name a system and set what makes it so.
"""

from ml_collections import ConfigDict


def system(variant: str, **model) -> ConfigDict:
    """A variant, 'paper' or 'tiny', with the given fields of the model."""
    variants = {"paper": paper, "tiny": tiny}
    if variant not in variants:
        raise ValueError(f"unknown variant {variant!r}; there are: {', '.join(variants)}")
    config = variants[variant]()
    config.model.update(model)
    return config


def paper() -> ConfigDict:
    """256-pixel faces, 24,000 for training, batch 10, 400 epochs, as in section 4 of the paper; see
    docs/PAPER.md for each choice.
    """
    config = ConfigDict()
    config.seed = 0

    config.data = ConfigDict()
    config.data.path = ""  # of images (docs/DATA.md); "photographs" for the embedded ones
    config.data.image_size = 256
    config.data.batch_size = 10  # over all devices
    config.data.split = 0.8  # share for training where the data has no train/ and test/ of its own
    config.data.split_seed = 1967
    config.data.flip = True  # mirrors half of the training images
    config.data.min_crop = 1.0  # side of the smallest random crop; 1 takes the centre square
    config.data.max_rejected = 0.01  # share of unreadable images at which a run stops
    config.data.workers = 0  # processes that read images; 0: threads of this one

    config.model = ConfigDict()  # fields of avq.models.vqvae.VQVAE
    config.model.levels = 2
    config.model.codes = 1024
    config.model.latent_dim = 256
    config.model.base_filters = (128, 128, 128)
    config.model.aren_filters = 128
    config.model.decoder_filters = (128, 128, 128, 128)
    config.model.encoder_blocks = 2
    config.model.decoder_blocks = 1
    config.model.stride_at = "last"
    config.model.attention_dim = 128
    config.model.attention_form = "algorithm1"
    config.model.attention_norm = "bias_clip"
    config.model.decoder_inputs = "finest"
    config.model.codebook_update = "ema"
    config.model.commitment = 0.25
    config.model.codebook_decay = 0.99
    config.model.revive_below = 0.03
    config.model.dtype = "float32"
    config.model.remat = False  # True: blocks are computed twice in training, for less memory
    config.model.sync_batch_norm = True  # False: results depend on the number of devices

    config.discriminator = ConfigDict()  # fields of avq.models.discriminator.Discriminator
    config.discriminator.filters = (128, 128, 128, 64, 64, 1)
    config.discriminator.strides = (2, 2, 2, 1, 1, 1)

    config.loss = ConfigDict()
    config.loss.adversarial = "non_saturating"  # or hinge, least_squares
    config.loss.adversarial_weight = 0.065  # 0 trains without a discriminator
    config.loss.adversarial_start = 0  # step from which the players play against each other

    config.optim = ConfigDict()
    config.optim.learning_rate = 1e-4
    config.optim.discriminator_learning_rate = 1e-4
    config.optim.b1 = 0.5
    config.optim.b2 = 0.999
    config.optim.warmup = 0  # steps
    config.optim.decay = "constant"  # or cosine
    config.optim.ema_decay = 0.999
    config.optim.accumulate = 1  # micro-batches that a step goes through data.batch_size in
    config.optim.skip_nonfinite = 0  # steps that may be left out for not being finite

    config.train = ConfigDict()
    config.train.steps = 960_000  # 400 epochs of 24,000 images
    config.train.log_every = 100
    config.train.eval_every = 10_000

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 2_000  # steps
    config.checkpoint.keep = 3  # newest
    config.checkpoint.keep_best = 1  # beside them, of the highest PSNR in evaluation

    config.parallel = ConfigDict()
    config.parallel.devices = 0  # 0: all
    return config


def tiny() -> ConfigDict:
    """64-pixel images, a tenth of the width, one stage less in the base: grids of 16x16 and 8x8
    codes.
    """
    config = paper()
    config.data.path = "photographs"
    config.data.image_size = 64
    config.data.batch_size = 8

    config.model.codes = 256
    config.model.latent_dim = 32
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
