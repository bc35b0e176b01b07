"""What goes wrong in training without an error, noticed while it happens."""

from typing import Any

COLLAPSED = 0.1  # usage of a level below which its codebook counts as collapsed
RUINED = 1.5  # mean absolute error, by the lowest so far, above which reconstructions are ruined


class Guards:
    """Looks at the summary of every log interval. It starts afresh when a run is resumed.

    Args:
        players_meet: step from which the discriminator plays; None where there is none.
    """

    def __init__(self, players_meet: int | None) -> None:
        self._players_meet = players_meet
        self._lowest = float("inf")
        self._known: set[str] = set()

    def look(self, step: int, values: dict[str, Any]) -> list[str]:
        """Adds `guard/collapsed` (by level) and `guard/ruined`, 0 or 1, to the values of the
        interval that ends with `step`; returns warnings of what was not so in the one before.
        """
        found = {}
        for level, usage in enumerate(values["train/usage"], start=1):
            if usage < COLLAPSED:
                found[f"level {level}"] = (
                    f"the codebook of level {level} has collapsed: {usage:.1%} of its codes are in "
                    "use. Lower optim.learning_rate, or raise model.revive_below."
                )
        playing = self._players_meet is not None and step > self._players_meet
        rise = values["train/mae"] / self._lowest
        if playing and rise > RUINED:
            found["discriminator"] = (
                f"the mean absolute error is {rise:.1f} times its lowest so far while the "
                "discriminator plays. Lower loss.adversarial_weight, or let it start later "
                "(loss.adversarial_start)."
            )
        self._lowest = min(self._lowest, values["train/mae"])
        values["guard/collapsed"] = [int(usage < COLLAPSED) for usage in values["train/usage"]]
        values["guard/ruined"] = int("discriminator" in found)
        new = [text for name, text in found.items() if name not in self._known]
        self._known = set(found)
        return new
