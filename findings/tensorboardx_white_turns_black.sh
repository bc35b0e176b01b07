#!/usr/bin/env bash
# In tensorboardX, pixels a little too bright come out black, and int32 images come out as noise.
#
# Expected: add_image writes what it cannot show as the nearest that it can: a float just over 1.0
#   is white, and integers from 0 to 255 are pixels, whatever their width.
# Happens: everything but uint8 is multiplied by 255 and cast to uint8 without a limit in between.
#   1.004 becomes 256 and, where the processor's cast wraps around, 0: black. Integers wrap around
#   everywhere: of an int32 image 255 is shown as 1, 2 as 254.
# Matters: tensorboardX is the writer for those who train without PyTorch or TensorFlow. Decoders
#   leave their range by a little where images are brightest, so samples show black specks in
#   highlights that the model does not make. Clip, round and cast to uint8 before add_image.
# Tested: tensorboardX 2.6.5, numpy 2.4.6, pillow 13.0.0, Python 3.11, x86-64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorboardX==2.6.5 numpy==2.4.6 pillow==13.0.0
cat > "$folder/shown.py" <<'PY'
import io
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter


def shown(name, pixels):
    """The pixels of the picture in the event file, after a row of grey pixels was written."""
    folder = Path(sys.argv[1]) / name
    with SummaryWriter(str(folder)) as writer:
        writer.add_image("row", np.stack([pixels] * 3, -1)[None], dataformats="HWC")
    (file,) = folder.iterdir()
    png = file.read_bytes().partition(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(png[1] + png[2])))[0, :, 0].tolist()


print("tensorboardX", version("tensorboardX"), "numpy", np.__version__)
bright = np.array([0.5, 0.98, 1.0, 1.004, 1.01], np.float32)
levels = np.array([0, 2, 100, 200, 255])
print("one would guess: 127 249 255 255 255 for the floats, and each integer as it is")
print("float32", bright, "->", shown("float", bright))
print("uint8  ", levels, "->", shown("uint8", levels.astype(np.uint8)))
print("int32  ", levels, "->", shown("int32", levels.astype(np.int32)))
still = shown("again", levels.astype(np.int32)) == (levels * 255 % 256).tolist()
sys.exit(0 if still else "no longer so")
PY
"$folder/venv/bin/python" "$folder/shown.py" "$folder"
