"""The `avq` command, one file a verb.

A verb reads its arguments, calls the library, prints. It imports the library when it runs, so that
`avq --version` and `--help` start at once.
"""

from avq.cli import (  # noqa: F401, each adds its verbs
    bench,
    compress,
    data,
    describe,
    encode,
    evaluate,
    export,
    prepare,
    restore,
    sample,
    study,
    tokenize,
)
from avq.cli.app import app

__all__ = ["app"]
