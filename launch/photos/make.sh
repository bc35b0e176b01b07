#!/usr/bin/env bash
# Makes the model that comes with avq as "photos", from the repository's root, on Debian:
#
#   launch/photos/make.sh runs/photos
#
# Gathers free photographs (gather.py, 200 MB of packages), trains on squares of them (4,000 steps:
# 21 minutes on one CPU core), measures on others, fits the codec, and fills avq/shipped/photos.
# The same command again continues. Settings of the training may follow the folder.
set -euo pipefail

run=$1
data=$run-data
[ -f "$data/LICENSES.md" ] || python launch/photos/gather.py "$data"
python -m avq.main --config=configs/ah_vqvae_plus.py:small --workdir="$run" \
  --config.data.path="$data" --config.data.min_crop=0.334 "${@:2}"
avq eval "$run" --json "$run/eval.json" --report "$run/report.html"
shown=() # held-out ones in the public domain or under CC0
for photograph in "$data"/whole/{budgie,wordpress,scikit}*; do
  shown+=(--images "$photograph")
done
avq export "$run" avq/shipped/photos --codec "${shown[@]}"
cp "$data/LICENSES.md" avq/shipped/photos/
