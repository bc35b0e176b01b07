"""Training from the command line.

    python -m avq.main --config=configs/ah_vqvae.py:tiny --workdir=runs/demo

The same command again resumes from the newest checkpoint.
"""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from avq.errors import InputError
from avq.train.stop import Stop, stop_on_signal  # neither imports JAX

OWN = ("--workdir", "--profile", "--init-from", "--distributed")
HELP = """\
usage: python -m avq.main --config=FILE[:VARIANT] --workdir=FOLDER [flags]

Trains, or resumes, a run.

flags:
  --config=FILE[:VARIANT]  config: a file, or the name of one that comes with avq
  --config.KEY=VALUE       a value of the config; --config=FILE --help lists them
  --workdir=FOLDER         folder of the run; one that holds a run resumes it
  --init-from=RUN|NAME     starts a new run from the weights of another one, of what avq export
                           wrote, or of a model that comes with avq, such as photos
  --profile=STEPS          traces so many steps into FOLDER/profile
  --distributed[=HOST:PORT,PROCESSES,INDEX]
                           one of several processes of a run; srun, mpirun and Cloud TPU are
                           recognised without the address
  --help                   this text, and the settings of --config

exit codes: 0 done; 2 bad input; 1 diverged, or could not save; 75 could not reach the other
processes, or lost one; 128 + n stopped by signal n. After the last two the same command continues.

examples:
  python -m avq.main --config=configs/ah_vqvae.py:tiny --workdir=runs/demo
  python -m avq.main --config ah_vqvae --config.data.path faces.zip --workdir runs/ah
"""


def main(arguments: Sequence[str]) -> int:
    """Trains; returns the exit code, see `HELP`."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for narrator in ("absl", "asyncio"):  # Orbax and Grain; errors there are raised, too
        logging.getLogger(narrator).setLevel(logging.CRITICAL)
    with stop_on_signal() as stop:
        try:
            return _run(arguments, stop)
        except InputError as error:
            return _failed(error, 2)
        except KeyboardInterrupt:  # before the first step, or for the second time
            return _interrupted(stop)


def _interrupted(stop: Stop) -> int:
    return 128 + (stop.number or signal.SIGINT)


def _run(arguments: Sequence[str], stop: Stop) -> int:
    from avq.config import joined

    arguments = joined(arguments, ("--config", "--workdir", "--profile", "--init-from"))
    if not arguments or {"-h", "--help"} & set(arguments):
        return _help([a for a in arguments if a.startswith("--config")])
    own = {name: value for name, _, value in (a.partition("=") for a in arguments) if name in OWN}
    workdir, profile = own.get("--workdir", ""), own.get("--profile", "0")
    if not workdir:
        raise InputError("--workdir is not given. Add --workdir=FOLDER; --help has examples.")
    if not profile.isdecimal():
        raise InputError(f"--profile={profile} is not a number of steps.")
    rest = [a for a in arguments if a.partition("=")[0] not in OWN]
    options = {"profile": int(profile), "init_from": own.get("--init-from", ""), "stop": stop}
    return _train(rest, own.get("--distributed"), workdir, options)


def _help(config: Sequence[str]) -> int:
    lines = [HELP]
    if config:
        from avq import tasks

        loaded = tasks.load(config)
        lines += [f"settings of {' '.join(config)}:", tasks.settings_as_text(loaded)]
    print("\n".join(lines))
    return 0


def _train(
    config: Sequence[str], distributed: str | None, workdir: str, options: Mapping[str, Any]
) -> int:
    import jax

    from avq import cpu, hosts, tasks
    from avq.checkpoint import NotSaved
    from avq.train import loop
    from avq.train.interval import Diverged

    try:
        loaded = tasks.load(config)
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/avq/jax"))
        jax.config.update("jax_compilation_cache_dir", cache)
        hosts.initialize(distributed)
        cpu.keep_memory()
        return loop.train(tasks.make_task(loaded), workdir, **options)
    except InputError as error:
        return hosts.leave(_failed(error, 2))
    except (Diverged, NotSaved, OSError) as error:
        return hosts.leave(_failed(error, 1))
    except hosts.NotConnected as error:
        return _failed(error, os.EX_TEMPFAIL)
    except KeyboardInterrupt:
        hosts.leave(_interrupted(options["stop"]))
        raise
    except Exception:
        if jax.distributed.is_initialized():
            traceback.print_exc()
        hosts.leave(1)
        raise


def _failed(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
