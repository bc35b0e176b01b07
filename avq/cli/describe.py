"""`avq describe`."""

import json
from typing import Annotated

import typer

from avq.cli.app import ConfigArguments, verb


@verb(
    "describe",
    settings=True,
    examples=(
        "avq describe ah_vqvae",
        "avq describe configs/ah_vqvae.py:tiny --config.model.levels=3 --json",
    ),
)
def describe(
    config: ConfigArguments,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Shapes, parameters, FLOPs and bits of a config, without training."""
    from avq import tasks
    from avq.config import as_flags
    from avq.describe import as_table, describe

    result = describe(tasks.load_autoencoder(as_flags(config)))
    print(json.dumps(result, indent=2) if as_json else as_table(result))
