"""Training from the command line.

    python -m avq.main --config=configs/ah_vqvae.py:tiny --workdir=runs/demo

The same command again goes on from the newest checkpoint.
"""

import logging
import os
import signal
import sys
from collections.abc import Sequence

import jax

from avq import config, cpu, hosts
from avq.checkpoint import NotSaved
from avq.errors import InputError
from avq.train import loop
from avq.train.interval import Diverged

OWN = ("--workdir", "--profile", hosts.FLAG)
USAGE = (
    "usage: python -m avq.main --config=configs/SYSTEM.py[:tiny] --workdir=FOLDER "
    "[--profile=STEPS] [--distributed[=HOST:PORT,PROCESSES,INDEX]] [--config.KEY=VALUE ...]"
)


def main(arguments: Sequence[str]) -> int:
    """Trains.

    Returns:
        The exit code: 0 done; 2 bad input; 1 diverged, or could not save; 75 the other processes
        did not come; 128 + n stopped by signal n. After the last two the same command goes on.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for narrator in ("absl", "asyncio"):  # of Orbax and Grain; what fails is raised, too
        logging.getLogger(narrator).setLevel(logging.CRITICAL)
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    pairs = [a.partition("=")[::2] for a in arguments]
    own = {name: value for name, value in pairs if name in OWN}
    rest = [a for a in arguments if a.partition("=")[0] not in own]
    workdir, profile = own.get("--workdir", ""), own.get("--profile", "0")
    try:
        if not workdir:
            raise InputError(f"--workdir is not given. {USAGE}")
        if not profile.isdecimal():
            raise InputError(f"--profile={profile} is not a number of steps.")
        settings = config.load(rest)
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/avq/jax"))
        jax.config.update("jax_compilation_cache_dir", cache)
        hosts.join(own.get(hosts.FLAG))
        cpu.keep_memory()
        return loop.train(settings, workdir, int(profile))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (Diverged, NotSaved, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except hosts.NotJoined as error:
        print(f"error: {error}", file=sys.stderr)
        return os.EX_TEMPFAIL
    except KeyboardInterrupt:  # before the first step, or for the second time
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
