"""Numbers as text."""


def shown(value: object) -> str:
    """Formats a measure: numbers to four decimals, lists separated by commas."""
    if isinstance(value, list | tuple):
        return ", ".join(shown(entry) for entry in value)
    if value is None:
        return "not known"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Formats a time by its size: '40 s', '12 min', '3.4 h'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
