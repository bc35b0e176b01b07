"""`avq study`."""

from pathlib import Path
from typing import Annotated

import typer

from avq.cli.app import verb
from avq.errors import InputError


@verb(
    "study",
    examples=(
        "avq study studies/paper.py --out studies/paper --data celeba=faces.zip",
        "avq study studies/paper.py --out studies/paper --dry-run",
    ),
)
def study(
    file: Annotated[Path, typer.Argument(help="Python file that defines STUDY.")],
    out: Annotated[Path, typer.Option(help="Folder of its runs, results.csv, table.md and plots.")],
    data: Annotated[
        list[str] | None, typer.Option(help="NAME=PATH: where data of the study is.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the runs, and write the tables again.")
    ] = False,
) -> None:
    """Trains systems x data x seeds alike, and compares them. The same command continues; several
    processes, on several machines with a common folder, share the runs.
    """
    from avq.study.definition import read_study
    from avq.study.work import Work
    from avq.train.stop import stop_on_signal

    paths = dict(entry.partition("=")[::2] for entry in data or ())
    for name, path in paths.items():
        if not path:
            raise InputError(f"--data {name}: give NAME=PATH.")
    work = Work(read_study(file, paths), out, lambda line: print(line, flush=True))
    if dry_run:
        work.write()
        for job in work.jobs:
            print(f"{'done' if work.is_done(job) else 'open'}  {job.folder}")
        return
    with stop_on_signal() as stop:
        stop.at_once = False
        code = work.run(stop)
    print(f"table: {out / 'table.md'}")
    raise typer.Exit(code)
