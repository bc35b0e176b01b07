#!/usr/bin/env bash
# One training over several machines under Slurm, from the repository's root, with avq's
# environment active (sbatch hands it on):
#
#   sbatch launch/slurm.sh --config=configs/ah_vqvae.py --config.data.path=DATA \
#       --config.data.batch_size=32 --workdir=runs/ah
#
# Options of sbatch go before the script's name and win over the lines below. The number of tasks
# must divide data.batch_size. DATA and the workdir lie where all machines see them.
#
#SBATCH --job-name=avq
#SBATCH --nodes=2
# One task a GPU. Every task must see all GPUs of its machine (so no --gpus-per-task): JAX gives
# the first task the first GPU, and so on.
#SBATCH --ntasks-per-node=8
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# The tasks get TERM this many seconds before the time is over: enough to end a step and save.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --output=avq-%j.log
#SBATCH --open-mode=append
set -euo pipefail

# Not while Slurm itself is ending the job: cancelled, out of time, or preempted.
running() { [[ $(scontrol show job "$SLURM_JOB_ID") == *JobState=RUNNING* ]]; }

requeue() {
    scontrol requeue "$SLURM_JOB_ID"
    exec sleep 60 # to be ended by the requeue
}

# A TERM to this shell alone (scancel --batch) is passed to the tasks. Where Slurm is ending the job
# they have one already, and a second would end them before they have saved. Not by way of srun,
# which answers a TERM by killing them.
signalled=
trap 'signalled=1; if running; then scancel --signal=TERM "$SLURM_JOB_ID"; fi' TERM

# All tasks leave together after a TERM, and none may be killed while it still saves: hence
# kill-on-bad-exit=0 whatever the site's default is. But when one has crashed, the rest must not
# hold the machines for ever: hence wait.
# cpus-per-task again: since Slurm 22.05 srun does not take it from the job.
srun --kill-on-bad-exit=0 --wait=300 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
    python -m avq.main "$@" &
step=$!

# In the background, because bash runs a trap only between commands, or at once in `wait`; that
# `wait` then reports the signal and not srun, so it is asked again.
while
    signalled=
    code=0
    wait "$step" || code=$?
    [[ $signalled ]]
do :; done

# 143 (128 + TERM): saved, to be resumed. A job that was preempted is requeued by Slurm, and
# one that was cancelled is to stay so.
if ((code == 143)) && running; then
    echo "saved (exit code 143): back into the queue"
    requeue
fi
# 75, or killed by another signal than those of persons (HUP 129, INT 130): a task was lost, and the
# rest ended. A job that loses one again and again before it has done anything is not to go round for
# ever.
if ((code == 75 || code > 130)) && running && ((SECONDS > 600 || ${SLURM_RESTART_COUNT:-0} < 3)); then
    echo "lost a task (exit code $code): back into the queue"
    requeue
fi
exit "$code"
