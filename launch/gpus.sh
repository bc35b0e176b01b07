#!/usr/bin/env bash
# All GPUs of one machine, from the repository's root:
#
#   launch/gpus.sh --config=configs/ah_vqvae.py --config.data.path=DATA --workdir=runs/ah
#
# One process drives every GPU that it sees, so there is nothing to set up between processes.
# CUDA_VISIBLE_DEVICES=0,1 in front takes some of them. The number of GPUs must divide
# data.batch_size.
set -euo pipefail

# exec: a TERM to this script is then a TERM to the training, which saves.
exec python -m avq.main "$@" --config.parallel.devices=0
