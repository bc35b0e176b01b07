"""The command itself, and what its verbs share."""

import functools
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from avq import __version__
from avq.errors import InputError
from avq.json_files import probe
from avq.storage.objects import AnyPath, require_local
from avq.workers import Worker, worker_of

app = typer.Typer(
    help="Discrete image autoencoders: describe, evaluate, compare, use, prepare data, measure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # keeps the lines of examples
    context_settings={"help_option_names": ["-h", "--help"]},
)

# First argument of a verb that takes a config.
ConfigArguments = Annotated[
    list[str],
    typer.Argument(
        metavar="CONFIG [--config.KEY=VALUE ...]",
        help="FILE[:VARIANT] of a config, or the name of one that comes with avq.",
    ),
]

RunArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="The --workdir of a training run, what avq export wrote, or a model that comes with "
        "avq, such as photos.",
    ),
]
ChannelsOption = Annotated[int, typer.Option(help="As --config.data.channels takes it: 1, 3 or 4.")]
StepOption = Annotated[
    int | None, typer.Option(min=0, help="Checkpoint of this step. Default: the newest.")
]

WorkerOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Do the share of worker I of N alone, numbered from 0, in any order and at any time. "
        "auto: I and N of this task of a Slurm array. auto/N: I of one, or of a Kubernetes pod.",
    ),
]
FinishOption = Annotated[
    bool, typer.Option("--finish", help="End what all workers have filled, to the bytes of one.")
]
RayOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Do all of it by so many workers as tasks of Ray, on the cluster at RAY_ADDRESS or, "
        "without one, on this machine.",
    ),
]


@app.callback(invoke_without_command=True)
def _common(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax and Grain narrate there
    if version:
        print(__version__)
        raise typer.Exit


def verb(
    name: str, *, examples: Sequence[str], settings: bool = False, group: typer.Typer = app
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds a function to `avq` as a verb: `InputError`s become one line and exit code 2.

    Args:
        name: of the verb.
        examples: commands that its `--help` ends in.
        settings: whether it takes `--config.KEY=VALUE`.
        group: that it is a verb of.
    """

    def add(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except InputError as error:
                print(f"error: {error}", file=sys.stderr)
                raise typer.Exit(2) from None

        epilog = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)
        context = {"ignore_unknown_options": settings, "help_option_names": ["-h", "--help"]}
        group.command(name, epilog=epilog, context_settings=context)(wrapped)
        return function

    return add


def require_writable(*files: Path | None) -> None:
    """Refuses files that cannot be written, before the work that would fill them."""
    for file in filter(None, files):
        require_local(file)
        if not file.parent.is_dir():
            raise InputError(f"{file}: there is no folder {str(file.parent)!r}. Make it first.")
        if file.is_dir():
            raise InputError(f"{file} is a folder. Give a file.")
        try:
            probe(file)
        except OSError as error:
            raise InputError(
                f"{file} cannot be written ({error.strerror}). Give another."
            ) from error


def write_page(file: Path, text: str, name: str) -> None:
    """Writes a page, and prints where it is."""
    from avq.json_files import replaced

    with replaced(file) as new:
        new.write_text(text, encoding="utf-8")
    print(f"{name}: {file}")


def require_png(file: Path) -> None:
    """Refuses a file for a picture whose name does not end in .png, or that cannot be written."""
    if file.suffix.lower() != ".png":
        raise InputError(f"{file} is no .png file. Give one.")
    require_writable(file)


def require_channels(channels: int) -> None:
    """Refuses a number of channels that images cannot have."""
    from avq.data.settings import Data
    from avq.settings import settings_of

    if problem := settings_of(Data)["channels"].error(channels):
        raise InputError(f"--channels={channels} {problem}.")


def worker_given(worker: str | None, finish: bool, ray: int | None = None) -> Worker | None:
    """The worker that --worker names; None without it. Refuses two ways to share work."""
    ways = {"--worker": worker is not None, "--finish": finish, "--ray": ray is not None}
    if sum(ways.values()) > 1:
        given = " and ".join(flag for flag, is_given in ways.items() if is_given)
        raise InputError(f"{given} are for calls of their own. Give one of them.")
    return None if worker is None else worker_of(worker)


@contextmanager
def progress(
    unit: str = "img",
) -> Iterator[tuple[Callable[[int], None], Callable[[int], object]]]:
    """A bar on a terminal: its callbacks `on_total` and `on_images`, or on others of a unit."""
    from tqdm import tqdm

    with tqdm(unit=unit, disable=not sys.stderr.isatty()) as bar:

        def on_total(total: int) -> None:
            bar.reset(total)

        yield on_total, bar.update


@contextmanager
def resumable() -> Iterator[None]:
    """Ends work that the same command continues where Ctrl-C stops it."""
    try:
        yield
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        raise typer.Exit(128 + signal.SIGINT) from None


def print_left_out(about: Mapping[str, Any]) -> None:
    """Names the images that a filled folder, or a worker's share, has no use for: `rejected` and
    `unused`.
    """
    from avq.data.dataset import in_words

    for entry in about["rejected"]:
        print(f"left out {entry['name']}: {entry['reason']}", file=sys.stderr)
    if unused := about.get("unused"):
        print(f"not used: {in_words(unused)}", file=sys.stderr)


def print_share(target: str | AnyPath, worker: Worker) -> None:
    """Says that a worker has done its share."""
    print(f"{target}: worker {worker} is done; after all are, run this with --finish instead")
