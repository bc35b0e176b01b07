#!/usr/bin/env bash
# Tries slurm.sh and slurm_array.sh on one machine, with a Slurm of its own in a temporary folder.
# training: two tasks on the CPU as one training, a TERM in the middle. Shows that the job saves, goes
# back into the queue by itself, resumes and finishes. loss: the same with one task killed: the other
# one ends with 75, and the job goes back into the queue by itself. workers: three workers of avq
# prepare, one of which Slurm kills and queues again. Shows that they end in the bytes of one call.
# Minutes on two cores. As root on Debian, from the repository's root, with avq's environment active:
#
#   apt-get install slurm-wlm munge
#   launch/slurm_trial.sh [training] [loss] [workers]
set -euo pipefail

folder=$(mktemp -d /tmp/slurm_trial.XXXXXX)
chmod 755 "$folder" # munge refuses folders that are not readable
node=$(hostname -s)
daemons=()
job=

finish() {
    # What slurmd started outlives it.
    [[ ! $job ]] || scancel --full --signal=KILL "$job" 2>/dev/null && sleep 3
    ((${#daemons[@]} == 0)) || kill "${daemons[@]}" 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap finish EXIT

# Waits until a command succeeds: until_true SECONDS WHAT COMMAND...
until_true() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > end)); then
            echo "waited too long for: $what" >&2
            tail -n 30 "$folder"/slurm*.log >&2
            exit 1
        fi
        sleep 0.5
    done
}

mkdir "$folder"/{munge,state,spool}
head -c 1024 /dev/urandom >"$folder/munge/key"
chmod 400 "$folder/munge/key"
munged --foreground --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" \
    --seed-file="$folder/munge/seed" 2>"$folder/munge/err" &
daemons+=($!)

# cred_expire is also how long a requeued job rests before it may start again; 120 by default.
# config_overrides: two CPUs are promised whatever the machine has.
cat >"$folder/slurm.conf" <<CONF
ClusterName=trial
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=10
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
MpiDefault=none
NodeName=$node NodeAddr=127.0.0.1 CPUs=2
PartitionName=trial Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$folder/slurm.conf
until_true 20 munged test -S "$folder/munge/socket"
slurmctld -D 2>/dev/null &
daemons+=($!)
slurmd -D 2>/dev/null &
daemons+=($!)
until_true 60 "an idle node" sh -c "sinfo --noheader --format=%T | grep -qx idle"

# Starts a training of two tasks, and waits for its first steps: begin RUN
begin() {
    job=$(sbatch --parsable --nodes=1 --ntasks-per-node=2 --cpus-per-task=1 --gres=none --time=60 \
        --output="$log" launch/slurm.sh --config=configs/ah_vqvae.py:tiny --workdir="$1" \
        --config.train.steps=60 --config.train.log_every=5 --config.train.eval_every=60 \
        --config.checkpoint.every=20)
    echo "job $job:"
    tail --retry --follow=name "$log" 2>/dev/null &
    daemons+=($!)
    until_true 900 "the first steps" grep -q '"step": 25' "$1/metrics.jsonl"
}

# Waits until the job has been requeued, has resumed, and is done.
end() {
    until_true 300 "the requeue" grep -q "back into the queue" "$log"
    until_true 900 "the end" sh -c "scontrol show job $job | grep -q JobState=COMPLETED"
    grep -q "resuming from step" "$log"
    sleep 1 # for the last lines of the output
    echo "Slurm on job $job:"
    scontrol show job "$job" | grep -E -o '(JobState|Restarts|ExitCode|NumTasks)=[^ ]+'
}

training() {
    local log=$folder/training.log
    begin "$folder/run"
    echo "step 25 is done: scancel --signal=TERM $job"
    scancel --signal=TERM "$job"
    end
    echo "saved, requeued, resumed, finished"
}

loss() {
    local log=$folder/loss.log
    begin "$folder/lost"
    echo "step 25 is done: kill -9 of task 1"
    for task in $(pgrep -f "avq.main .*--workdir=$folder/lost"); do
        ! grep -qz SLURM_PROCID=1 "/proc/$task/environ" || kill -9 "$task"
    done
    end
    echo "lost a task, stopped, requeued, resumed, finished"
}

workers() {
    local log=$folder/workers.log
    local command=(launch/slurm_array.sh prepare "$folder/images" "$folder/set" --size 64)
    local options=(--parsable --cpus-per-task=1 --time=60 --output="$log")
    mkdir "$folder/images"
    python - "$folder/images" <<'PYTHON'
import pathlib, sys
from benchmarks.many_images import generate
generate(pathlib.Path(sys.argv[1]), 8000)
PYTHON
    avq "${command[1]}" "$folder/images" "$folder/one" --size 64
    job=$(sbatch "${options[@]}" --array=0-2 "${command[@]}")
    until_true 300 "a shard" compgen -G "$folder/set/unfinished/worker-0-of-3/part-*"
    echo "worker 0 of 3 writes a shard: scontrol requeue ${job}_0"
    scontrol requeue "${job}_0"
    job=$(sbatch "${options[@]}" --array=0 --dependency=afterok:"$job" "${command[@]}" --finish)
    until_true 900 "the end" test -f "$folder/set/dataset.json"
    until_true 60 "the end of the job" sh -c "scontrol show job $job | grep -q JobState=COMPLETED"
    cat "$log"
    diff -r "$folder/one" "$folder/set"
    echo "killed, requeued, finished: the bytes of one call"
}

export JAX_PLATFORMS=cpu
for part in ${*:-training loss workers}; do
    $part
done
