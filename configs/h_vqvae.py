"""H-VQVAE: two levels of codes, no attention.

python -m avq.main --config=configs/h_vqvae.py --config.data.path=DATA --workdir=runs/h_vqvae
python -m avq.main --config=configs/h_vqvae.py:tiny --workdir=runs/h_vqvae-tiny
"""

from ml_collections import ConfigDict

from avq.configs import common


def get_config(variant: str = "paper") -> ConfigDict:
    return common.system(variant, levels=2, attention_norm="off")
