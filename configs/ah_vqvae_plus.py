"""AH-VQVAE plus: attentive and hierarchical as the paper's, on the grids of the codes alone, with
narrow codes that are all decoded.

python -m avq.main --config=configs/ah_vqvae_plus.py:tiny --workdir=runs/ah_vqvae_plus-tiny
python -m avq.main --config=configs/ah_vqvae_plus.py --config.data.path=DATA --workdir=runs/plus
"""

from ml_collections import ConfigDict

from avq.configs import common


def get_config(variant: str = "paper") -> ConfigDict:
    """A variant: 'tiny', 64 pixels, minutes on two CPU cores; 'small', 128 pixels, some twenty
    minutes there, the setting of the model `photos` that comes with avq; 'paper', 256 pixels and as
    many codes as the paper's, which has not been trained yet.
    """
    sizes = {"tiny": tiny, "small": small, "paper": paper}
    if variant not in sizes:
        raise ValueError(f"unknown variant {variant!r}; there are: {', '.join(sizes)}")
    config = common.system("paper" if variant == "paper" else "tiny")
    config.data.batch_size = 16

    config.model.architecture = "patch"
    config.model.norm = "rms"
    config.model.decoder_inputs = "all"
    config.model.code_dim = 8
    config.model.fill = "kmeans"
    config.model.encoder_blocks = 1
    config.model.decoder_blocks = 2

    config.loss.adversarial_weight = 0.0

    config.optim.optimizer = "muon"
    config.optim.learning_rate = 4e-3
    config.optim.b1 = 0.9
    config.optim.b2 = 0.99
    config.optim.warmup = 50
    config.optim.decay = "cosine"
    sizes[variant](config)
    return config


def tiny(config: ConfigDict) -> None:
    config.model.patch = 4
    config.model.width = config.model.attention_dim = 64
    config.train.steps = 1000
    config.train.log_every = 50
    config.train.eval_every = 500


def small(config: ConfigDict) -> None:
    config.data.image_size = 128
    config.model.codebook_size = 1024
    config.model.patch = 8
    config.model.width = config.model.attention_dim = 64
    config.train.steps = 4000
    config.train.eval_every = 1000
    config.checkpoint.every = 500


def paper(config: ConfigDict) -> None:
    config.model.patch = 8
    config.model.width = config.model.attention_dim = 256
    config.train.steps = 200_000
