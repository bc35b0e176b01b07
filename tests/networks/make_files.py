"""Makes `files/`: the same tensors as PyTorch writes them today and as it did before version 1.6.

    pip install torch
    python tests/networks/make_files.py

The files in the repository are of torch 2.13.0.
"""

from pathlib import Path

import torch

FOLDER = Path(__file__).parent / "files"


def state():
    """A network's state, and tensors of other kinds, layouts and owners."""
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    with torch.no_grad():
        for number, tensor in enumerate(network.state_dict().values()):
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape) / 4 + number)
    tensors = network.state_dict()
    block = torch.arange(12.0)
    return tensors | {
        "half": torch.tensor([0.5, -2.0]).half(),
        "bfloat16": torch.tensor([1.5, -3.0]).bfloat16(),
        "double": torch.tensor([0.1], dtype=torch.float64),
        "scalar": torch.tensor(7.0),
        "part": block[4:10].reshape(2, 3),  # one block, two tensors
        "whole": block,
        "parameter": torch.nn.Parameter(torch.tensor([1.0, 2.0])),
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    torch.save(state(), FOLDER / "zip.pth")
    torch.save(state(), FOLDER / "stream.pth", _use_new_zipfile_serialization=False)
    torch.save({"transposed": torch.zeros(2, 3).T}, FOLDER / "transposed.pth")
    torch.save(torch.nn.Linear(1, 1), FOLDER / "module.pth")
