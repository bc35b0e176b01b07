"""Models that come with avq, by name: each is a released folder beside this file."""

import difflib
from pathlib import Path

from avq.errors import InputError
from avq.storage.copies import local

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of the models."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def default() -> Path:
    """Folder of the model of photographs, whatever the working folder has under its name."""
    return FOLDER / "photos"


def located(what: str | Path) -> Path:
    """A path that exists, the local copy of a run on object storage, or the folder of the model of
    this name.

    Raises:
        InputError: naming the nearest model, when it is neither.
    """
    path = local(what)
    if path.exists():
        return path
    known = names()
    if str(what) in known:
        return FOLDER / str(what)
    near = difflib.get_close_matches(str(what), known, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else "."
    raise InputError(
        f"no such run, folder, file or model: {str(what)!r}{meant} Give the --workdir of a "
        "training run, what avq export wrote, or a model that comes with avq: "
        f"{', '.join(known) or 'none'}."
    )
