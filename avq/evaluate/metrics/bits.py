"""Bit rate of the codes."""

from collections.abc import Mapping

from jaxtyping import Array, Bool, Float, Int

from avq.evaluate.metrics.base import About, Metric, Value


class BitsPerPixel(Metric[tuple[()]]):
    """Bits of the codes over pixels; the same for every image of a size, so there are no sums."""

    meaning: Mapping[str, str] = {
        "bits_per_pixel": "of the codes that decoding reads, without entropy coding",
        "decoded_levels": "levels, from the finest on, that decoding reads; coarser ones act "
        "through them and are not sent",
    }

    def batch(
        self,
        images: Float[Array, "b h w c"],
        targets: Float[Array, "b h w c"],
        codes: tuple[Int[Array, "b _h _w"], ...],
        mask: Bool[Array, "b"],
        about: About,
    ) -> tuple[()]:
        """Nothing."""
        return ()

    def summary(self, sums: tuple[()], about: About) -> dict[str, Value]:
        """The model's rate at `image_size`, and the levels that make it up."""
        return {
            "bits_per_pixel": about.bits_per_pixel,
            "decoded_levels": about.decoded_levels,
        }
