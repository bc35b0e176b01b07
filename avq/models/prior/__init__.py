"""Priors over the codes of images, by the name that a config gives as `model.kind`.

To add one: a subclass of `base.PriorModule` in a new file here, and a line in
`PRIORS`. Its fields that are `avq.settings.setting`s become keys of the config's section 'model'.
"""

from avq.models.prior.base import Drawing, PriorModule
from avq.models.prior.masked import MaskedPrior
from avq.models.prior.pixelcnn import PixelCNNPrior
from avq.models.prior.transformer import TransformerPrior

__all__ = [
    "PRIORS",
    "Drawing",
    "MaskedPrior",
    "PixelCNNPrior",
    "PriorModule",
    "TransformerPrior",
]

PRIORS: dict[str, type[PriorModule]] = {
    "transformer": TransformerPrior,
    "pixelcnn": PixelCNNPrior,
    "masked": MaskedPrior,
}
