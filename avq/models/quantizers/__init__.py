"""Quantisers by the name that a config gives as `model.quantizer`.

To add one: derive it from `base.Quantizer` in a new file here and add a line to `QUANTIZERS`. Its
fields that are `avq.settings.setting`s become keys of the config's section 'model'; a name that
another class of the section has, too, must keep its meaning and default. A quantiser from outside
this package registers itself by `QUANTIZERS["name"] = ItsClass` before the config is loaded.
"""

from avq.models.quantizers.base import CodebookStatistics, Quantized, Quantizer
from avq.models.quantizers.binary import BSQQuantizer, LFQQuantizer
from avq.models.quantizers.compound import ProductQuantizer, ResidualQuantizer
from avq.models.quantizers.diveq import DiVeQQuantizer
from avq.models.quantizers.ema import EMAQuantizer
from avq.models.quantizers.fsq import FSQQuantizer
from avq.models.quantizers.gradient import GradientQuantizer
from avq.models.quantizers.simvq import SimVQQuantizer

__all__ = [
    "QUANTIZERS",
    "BSQQuantizer",
    "CodebookStatistics",
    "DiVeQQuantizer",
    "EMAQuantizer",
    "FSQQuantizer",
    "GradientQuantizer",
    "LFQQuantizer",
    "ProductQuantizer",
    "Quantized",
    "Quantizer",
    "ResidualQuantizer",
    "SimVQQuantizer",
]

QUANTIZERS: dict[str, type[Quantizer]] = {
    "ema": EMAQuantizer,
    "gradient": GradientQuantizer,
    "diveq": DiVeQQuantizer,
    "simvq": SimVQQuantizer,
    "residual": ResidualQuantizer,
    "product": ProductQuantizer,
    "fsq": FSQQuantizer,
    "lfq": LFQQuantizer,
    "bsq": BSQQuantizer,
}
