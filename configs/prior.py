"""A prior over the codes of a trained autoencoder, from which images are drawn.

python -m avq.main --config=configs/prior.py --config.tokenizer=RUN --workdir=runs/prior
python -m avq.main --config=configs/prior.py:tiny --config.tokenizer=RUN --workdir=runs/prior-tiny

It is trained on the images of RUN, or on those of --config.data.path. --config.model.kind chooses
transformer, pixelcnn or masked.
"""

from ml_collections import ConfigDict

from avq import tasks


def get_config(variant: str = "base") -> ConfigDict:
    """A variant: 'base', for a GPU; 'tiny', minutes on two CPU cores."""
    variants = {"base": base, "tiny": tiny}
    if variant not in variants:
        raise ValueError(f"unknown variant {variant!r}; there are: {', '.join(variants)}")
    return variants[variant]()


def base() -> ConfigDict:
    config = tasks.defaults("prior")
    config.optim.learning_rate = 3e-4
    config.optim.weight_decay = 0.05
    config.optim.b1 = 0.9
    config.optim.b2 = 0.98
    config.optim.warmup = 1000
    config.optim.decay = "cosine"
    config.train.steps = 100_000
    config.train.eval_every = 5_000
    return config


def tiny() -> ConfigDict:
    config = base()
    config.data.batch_size = 8

    config.model.width = 96
    config.model.depth = 4
    config.model.heads = 2
    config.model.code_dim = 32
    config.model.dropout = 0.0  # two epochs of 8,000 images; more need some

    config.optim.learning_rate = 4e-3
    config.optim.warmup = 50
    config.optim.ema_decay = 0.99

    config.train.steps = 2000
    config.train.log_every = 100
    config.train.eval_every = 500

    config.checkpoint.every = 500
    return config
