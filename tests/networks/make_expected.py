"""Makes `expected.npz`, outputs of the networks of torch-fidelity and lpips with random weights,
and `shapes.json`, the names and shapes of their tensors.

    pip install torch torchvision torch-fidelity==0.4.0 lpips==0.1.4
    python tests/networks/make_expected.py

The files in the repository are of torch 2.13.0.
"""

import json
import re
from pathlib import Path
from unittest import mock

import lpips
import numpy as np
import torch
from random_weights import random_images, random_tensor
from torch_fidelity import feature_extractor_inceptionv3 as fidelity
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

HERE = Path(__file__).parent


def inception_network():
    """Network of torch-fidelity, which otherwise fetches its weights."""
    network = fidelity.FeatureExtractorInceptionV3
    with (
        mock.patch.object(fidelity, "load_state_dict_from_url"),
        mock.patch.object(network, "load_state_dict"),
    ):
        return network("inception", ["2048"])


def lpips_network(kind):
    return lpips.LPIPS(pretrained=False, net=kind, pnet_rand=True, verbose=False)


def state(network):
    """The tensors that training changes, by name; each once."""
    fixed = ("num_batches_tracked", "scaling_layer", "lins.")  # lins.0 is lin0 again
    tensors = network.state_dict().items()
    return {name: tensor for name, tensor in tensors if not re.search("|".join(fixed), name)}


def fill(network):
    for name, tensor in state(network).items():
        tensor.copy_(torch.from_numpy(random_tensor(name, tuple(tensor.shape))))
    return network.eval()


def in_torch(images):
    return torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)


@torch.no_grad()
def main():
    networks = {"inception": inception_network()} | {k: lpips_network(k) for k in ("vgg", "alex")}
    shapes = {
        kind: {name: list(tensor.shape) for name, tensor in state(network).items()}
        for kind, network in networks.items()
    }
    (HERE / "shapes.json").write_text(json.dumps(shapes, separators=(",", ":")) + "\n")
    pictures = in_torch(random_images(2, 52, 75))
    resized = interpolate_bilinear_2d_like_tensorflow1x(pictures, (67, 67), align_corners=False)
    pair = [in_torch(random_images(2, 48, 64, seed)) / 127.5 - 1 for seed in (0, 1)]
    arrays = {
        "inception": fill(networks["inception"])(pictures.to(torch.uint8))[0],
        "resized": resized.permute(0, 2, 3, 1),
        "vgg": fill(networks["vgg"])(*pair).flatten(),
        "alex": fill(networks["alex"])(*pair).flatten(),
    }
    for name, array in arrays.items():
        print(name, tuple(array.shape), f"mean {array.mean():.4f}, deviation {array.std():.4f}")
    np.savez_compressed(HERE / "expected.npz", **arrays)


if __name__ == "__main__":
    main()
