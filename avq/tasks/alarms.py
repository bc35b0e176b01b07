"""Alarms of the autoencoder: collapsed codebooks, reconstructions ruined by the discriminator."""

from collections.abc import Mapping
from typing import Any

COLLAPSED = 0.1  # usage of a level below which its codebook counts as collapsed
RUINED = 1.5  # reconstruction loss over its lowest so far, above which reconstructions are ruined


def collapse(step: int, values: dict[str, Any]) -> Mapping[str, str]:
    """Warns of levels that use too few of their codes; adds `guard/collapsed`, 0 or 1 by level."""
    usages = values["train/usage"]
    values["guard/collapsed"] = [int(usage < COLLAPSED) for usage in usages]
    return {
        f"level {level}": (
            f"the codebook of level {level} has collapsed: {usage:.1%} of its codes are in use. "
            "Lower optim.learning_rate, or raise model.revive_below."
        )
        for level, usage in enumerate(usages, start=1)
        if usage < COLLAPSED
    }


class Ruin:
    """Warns when the reconstruction loss rises far above its lowest value so far while the
    discriminator plays; adds `guard/ruined`, 0 or 1.

    Args:
        adversarial_start: step from which the discriminator plays.
    """

    def __init__(self, adversarial_start: int) -> None:
        self._start = adversarial_start
        self._lowest = float("inf")

    def __call__(self, step: int, values: dict[str, Any]) -> Mapping[str, str]:
        loss = values["train/reconstruction"]
        rise = loss / self._lowest
        self._lowest = min(self._lowest, loss)
        ruined = step > self._start and rise > RUINED
        values["guard/ruined"] = int(ruined)
        if not ruined:
            return {}
        return {
            "discriminator": (
                f"the reconstruction loss is {rise:.1f} times its lowest so far while the "
                "discriminator plays. Lower loss.adversarial_weight, or let it start later "
                "(loss.adversarial_start)."
            )
        }
