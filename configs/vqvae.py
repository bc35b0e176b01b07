"""VQ-VAE: the plain baseline of one level of codes, without attention and without a discriminator.

python -m avq.main --config=configs/vqvae.py --config.data.path=DATA --workdir=runs/vqvae
python -m avq.main --config=configs/vqvae.py:tiny --workdir=runs/vqvae-tiny
"""

from ml_collections import ConfigDict

from avq.configs import common


def get_config(variant: str = "paper") -> ConfigDict:
    config = common.system(variant, levels=1, attention_norm="off")
    config.loss.adversarial_weight = 0.0
    return config
