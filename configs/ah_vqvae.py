"""AH-VQVAE: two levels of codes with pixel attention, the paper's main system.

python -m avq.main --config=configs/ah_vqvae.py --config.data.path=DATA --workdir=runs/ah_vqvae
python -m avq.main --config=configs/ah_vqvae.py:tiny --workdir=runs/ah_vqvae-tiny
"""

from ml_collections import ConfigDict

from avq.configs import common


def get_config(variant: str = "paper") -> ConfigDict:
    return common.system(variant, levels=2, attention_norm="bias_clip")
