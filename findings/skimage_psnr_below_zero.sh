#!/usr/bin/env bash
# One pixel below zero by a rounding error adds 6 dB to scikit-image's PSNR.
#
# Expected: peak_signal_noise_ratio takes the range of a float image from its dtype, which is the
#   only thing the documentation says of it, so that nearly equal images have nearly equal PSNR.
# Happens: it looks at the pixels of the first image. With none below zero the range is 1, with
#   one it is 2, and PSNR jumps by 20 log10(2) = 6.02 dB. Only the first argument counts, so the
#   same pixel in the reconstruction changes nothing, and exchanging the two images does.
# Matters: images leave a resize, a colour conversion or a decoder at -1e-9. A table of PSNR by
#   image is then a mixture of two scales. Pass data_range always.
# Tested: scikit-image 0.26.0, numpy 2.4.6, Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-image==0.26.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import skimage
from skimage.metrics import peak_signal_noise_ratio as psnr

print("scikit-image", skimage.__version__, "numpy", np.__version__)
noise = np.random.default_rng(0)
image = noise.random((64, 64))
image[0, 0] = 0.0
decoded = np.clip(image + noise.normal(scale=0.05, size=image.shape), 0, 1)
shifted = image.copy()
shifted[0, 0] = -1e-9  # one pixel of 4096, by a billionth

print("one would guess: the same PSNR four times, to many digits")
print("psnr(image, decoded)                        ", psnr(image, decoded))
print("one pixel of the image at -1e-9             ", psnr(shifted, decoded))
print("the same two, exchanged                     ", psnr(decoded, shifted))
print("the same two, data_range=1                  ", psnr(shifted, decoded, data_range=1))

jump = psnr(shifted, decoded) - psnr(image, decoded)
raise SystemExit(0 if abs(jump - 20 * np.log10(2)) < 1e-3 else "no longer so")
PY
