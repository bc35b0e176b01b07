"""A-VQVAE: one level of codes with pixel attention.

python -m avq.main --config=configs/a_vqvae.py --config.data.path=DATA --workdir=runs/a_vqvae
python -m avq.main --config=configs/a_vqvae.py:tiny --workdir=runs/a_vqvae-tiny
"""

from ml_collections import ConfigDict

from avq.configs import common


def get_config(variant: str = "paper") -> ConfigDict:
    return common.system(variant, levels=1, attention_norm="bias_clip")
