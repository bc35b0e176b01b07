#!/usr/bin/env bash
# One training over all hosts of a Cloud TPU pod slice, from the repository's root on any machine
# that has gcloud:
#
#   export TPU=NAME ZONE=ZONE
#   launch/tpu.sh install    # once a slice, and after a change of the code; takes what is committed
#   launch/tpu.sh train --config=configs/ah_vqvae.py --config.data.path=/mnt/DATA \
#       --config.data.batch_size=32 --workdir=/mnt/runs/ah
#   launch/tpu.sh log        # what process 0 prints; the last line is the exit code
#   launch/tpu.sh stop       # saves; the same `train` then resumes, on this slice or another
#
# /mnt stands for a disk that every host of the slice has mounted, such as Filestore. PYTHON names
# an interpreter of the hosts, 3.11 or newer.
set -euo pipefail

python=${PYTHON:-python3.12}
tpu=(gcloud compute tpus tpu-vm)

on() { # on WORKER COMMAND
    "${tpu[@]}" ssh "$TPU" --zone="$ZONE" --worker="$1" --command="$2"
}

action=${1:-}
shift || true
case $action in
install)
    archive=$(mktemp --suffix=.tgz)
    trap 'rm -f "$archive"' EXIT
    git archive --format=tgz --output="$archive" HEAD
    "${tpu[@]}" scp "$archive" "$TPU:avq.tgz" --zone="$ZONE" --worker=all
    on all "mkdir -p avq && tar -xzf avq.tgz -C avq && cd avq && $python -m venv .venv &&
        .venv/bin/pip install --quiet --editable '.[tpu]'"
    ;;
train)
    # Every host runs the same command; --distributed lets JAX ask the slice who the others are.
    # Apart from the connection, whose loss must not end the training.
    printf -v arguments '%q ' --distributed "$@"
    printf -v job '%q' ".venv/bin/python -m avq.main $arguments & echo \$! >avq.pid
        wait \$!; echo exit code \$?"
    on all "cd avq && nohup bash -c $job >>avq.log 2>&1 </dev/null &"
    ;;
log) on 0 'tail --lines=50 --follow avq/avq.log' ;;
stop)
    # shellcheck disable=SC2016 # the host expands it
    on all 'kill -TERM "$(cat avq/avq.pid)"'
    ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
