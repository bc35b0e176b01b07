"""Warnings of conditions that ruin training without raising an error."""

from collections.abc import Sequence
from typing import Any

from avq.train.task import Alarm


class Guards:
    """Checks the values of every log interval against the alarms of a task. It starts afresh when a
    run is resumed.
    """

    def __init__(self, alarms: Sequence[Alarm]) -> None:
        self._alarms = alarms
        self._known: set[str] = set()

    def check(self, step: int, values: dict[str, Any]) -> list[str]:
        """Returns a warning for each condition that was absent in the previous interval.

        Args:
            step: last one of the interval.
            values: of the interval; alarms may add `guard/NAME` to them.
        """
        warnings: dict[str, str] = {}
        for alarm in self._alarms:
            warnings |= alarm(step, values)
        new = [text for name, text in warnings.items() if name not in self._known]
        self._known = set(warnings)
        return new
