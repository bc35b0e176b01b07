"""Codes of the images of a run, and the function that makes them."""

import functools

import pytest

from avq import parallel
from avq.apply import tokenize as module


@pytest.fixture(scope="session")
def one_device():
    return parallel.make_mesh(1)


@pytest.fixture(scope="session")
def tokenized(tokenizer, one_device):
    """Tokenizes into small shards, by default on one device. Compiles once for all tests."""
    encoder = functools.cache(module._Encoder)

    def call(path, target, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "IMAGES_PER_SHARD", 8)
            patch.setattr(module, "_Encoder", encoder)
            model = options.pop("model", tokenizer)
            return module.tokenize(model, str(path), target, **{"mesh": one_device, **options})

    return call


@pytest.fixture(scope="session")
def whole(tokenized, image_folder, tmp_path_factory):
    """Codes of all twenty images. To be left as they are."""
    target = tmp_path_factory.mktemp("tokenized") / "codes"
    tokenized(image_folder, target)
    return target
