"""Training from the command line.

    python -m avq.main --config=configs/ah_vqvae.py:tiny --workdir=runs/demo

The same command again goes on from the newest checkpoint.
"""

import logging
import os
import sys
from collections.abc import Sequence

import jax

from avq import config, cpu
from avq.errors import InputError
from avq.train import loop

USAGE = (
    "usage: python -m avq.main --config=configs/SYSTEM.py[:tiny] --workdir=FOLDER "
    "[--profile=STEPS] [--config.KEY=VALUE ...]"
)


def main(arguments: Sequence[str]) -> int:
    """Trains; the exit code: 0 done, 2 bad input, 1 diverged, 128 + n stopped by signal n."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax and Grain narrate there
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    own = dict(a.split("=", 1) for a in arguments if a.startswith(("--workdir=", "--profile=")))
    rest = [a for a in arguments if a.split("=", 1)[0] not in own]
    workdir, profile = own.get("--workdir", ""), own.get("--profile", "0")
    try:
        if not workdir:
            raise InputError(f"--workdir is not given. {USAGE}")
        if not profile.isdecimal():
            raise InputError(f"--profile={profile} is not a number of steps.")
        settings = config.load(rest)
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/avq/jax"))
        jax.config.update("jax_compilation_cache_dir", cache)
        cpu.keep_memory()
        return loop.train(settings, workdir, int(profile))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except loop.Diverged as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
