"""AH-VQVAE of three levels of codes with pixel attention.

python -m avq.main --config=configs/ah3_vqvae.py --config.data.path=DATA --workdir=runs/ah3
python -m avq.main --config=configs/ah3_vqvae.py:tiny --workdir=runs/ah3-tiny
"""

from ml_collections import ConfigDict

from avq.configs import common


def get_config(variant: str = "paper") -> ConfigDict:
    return common.system(variant, levels=3, attention_norm="bias_clip")
