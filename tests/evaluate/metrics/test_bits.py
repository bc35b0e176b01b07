"""Bit rate of the codes."""

from avq.evaluate.metrics.bits import BitsPerPixel

from .metric_helpers import ABOUT, pictures, sums

EXPECTED = {"bits_per_pixel": 1.5, "decoded_levels": 1}


def test_bits_per_pixel_are_those_of_the_model():
    metric = BitsPerPixel()
    assert metric.summary(sums(metric, *pictures(2)), ABOUT) == EXPECTED
