"""`avq bench`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from avq.cli.app import ConfigArguments, require_writable, verb


@verb(
    "bench",
    settings=True,
    examples=(
        "avq bench ah_vqvae:tiny",
        "avq bench configs/ah_vqvae.py --config.model.dtype=bfloat16 --json bench.json",
    ),
)
def bench(
    config: ConfigArguments,
    runs: Annotated[int, typer.Option(min=10, help="Timed calls of each kind.")] = 10,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the measures here.")
    ] = None,
) -> None:
    """Time, speed, operations and memory of a config on this machine."""
    from avq import cpu, tasks
    from avq.bench import as_table, bench
    from avq.config import as_flags

    require_writable(json_file)
    loaded = tasks.load_autoencoder(as_flags(config))
    cpu.keep_memory()
    measures = bench(loaded, runs, lambda stage: print(f"{stage} ...", file=sys.stderr))
    result = {"config": " ".join(config), **measures}
    print(as_table(result))
    if json_file:
        json_file.write_text(json.dumps(result, indent=2) + "\n")
