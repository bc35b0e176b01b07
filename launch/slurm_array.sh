#!/usr/bin/env bash
# Many independent workers under Slurm, with avq's environment active (sbatch hands it on), and a job
# that finishes after all of them:
#
#   set -- launch/slurm_array.sh prepare SRC DST --size 256
#   sbatch --array=0 --dependency=afterok:"$(sbatch --parsable "$@")" "$@" --finish
#
# Change: the three lines below, or give them to sbatch before the script's name. `tokenize RUN DATA
# OUT` and `eval RUN --json FILE` work alike, with --gres=gpu:1; for `study FILE --out DIR` sbatch "$@"
# is enough. Files lie where all machines see them. A worker may die, come late or be started twice;
# after a failure submit the same again: what is done takes seconds.
#
#SBATCH --array=0-15
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --job-name=avq-workers
#SBATCH --requeue
#SBATCH --output=avq-%A_%a.log
#SBATCH --open-mode=append
set -euo pipefail

# Workers of a study find their runs by themselves.
if [[ $1 != study && " $* " != *" --finish "* ]]; then
    set -- "$@" --worker auto
fi
exec avq "$@"
