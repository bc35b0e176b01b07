"""A trained model: from a run or a released folder to its module, variables and config.

A released folder holds `model.safetensors`, the model's variables, named by their path
(`params/encoder/...`), and `config.json`: `kind` and `format`, `model` and `data` as in the config
of the run, `dataset` as in its `dataset.json` without what names images, `step` of the checkpoint,
and the model's `digest`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avq import shipped
from avq.checkpoint import Checkpoints
from avq.config import (
    CONFIG,
    DATASET,
    completed,
    input_errors,
    read_config,
    require_valid_config,
)
from avq.data.dataset import read_summary
from avq.data.settings import Data
from avq.data.views import Degradation
from avq.errors import InputError
from avq.json_files import read_json
from avq.models.build import make_autoencoder, model_kinds, require_multiple
from avq.models.vqvae import VQVAE
from avq.settings import construct
from avq.tensor_file import read_tensors

PLAYER = "vqvae"  # name of the autoencoder in a checkpoint
TENSORS, SUFFIX = "model.safetensors", ".safetensors"
KIND, FORMAT = "avq model", 1  # of a released folder's config.json
MAX_CONFIG = 1 << 20  # bytes


@dataclass
class TrainedModel:
    """A model, for those who only use it.

    Attributes:
        model: the module.
        variables: averaged parameters and batch statistics, codebooks.
        config: of the run; of a released one, its sections 'model' and 'data'.
        dataset: content of the run's `dataset.json`.
        step: of the checkpoint.
    """

    model: VQVAE
    variables: dict[str, Any]
    config: dict[str, Any]
    dataset: dict[str, Any]
    step: int

    @property
    def data(self) -> Data:
        """Settings of the images that it was trained on."""
        return construct(Data, self.config["data"])

    @property
    def degradation(self) -> Degradation:
        """What the model was trained to undo in its input."""
        return construct(Degradation, self.config["data"])


def load_model(what: str | Path, step: int | None = None) -> TrainedModel:
    """Restores the averaged autoencoder of a run from its newest checkpoint that can be read, or
    from that of `step`; or of a released folder, the `.safetensors` file in one, or a model that
    comes with avq, by name. A path that exists wins over a name.

    Raises:
        InputError: when it is none of these, or has no such checkpoint, a config with unknown keys
            or of a newer avq, or weights that are damaged or of another model than the config's.
    """
    what = shipped.located(what)
    folder = model_folder(what)
    config = _released_config(folder)
    if config is not None:
        return _released(folder / TENSORS if folder == what else what, config, step)
    if folder != what:
        raise InputError(
            f"{str(what)!r}: there is no {CONFIG} of a released model beside it. Give the whole "
            "folder that avq export wrote."
        )
    return _of_run(what, step)


def model_folder(what: str | Path) -> Path:
    """Folder of a model that is given as for `load_model`."""
    what = shipped.located(what)
    return what.parent if what.suffix == SUFFIX and not what.is_dir() else what


def is_released(folder: Path) -> bool:
    """Whether a folder holds a released model, not a run."""
    return _released_config(folder) is not None


def _of_run(run: Path, step: int | None) -> TrainedModel:
    config, dataset = read_config(run), read_json(run / DATASET)
    if config is None or dataset is None:
        missing = CONFIG if config is None else DATASET
        hidden = str(run) in shipped.names()
        hint = " It hides the model of this name that comes with avq." if hidden else ""
        raise InputError(
            f"{str(run)!r} is not a run: no {missing} in it. Give the --workdir of a training run, "
            f"or a folder that avq export wrote.{hint}"
        )
    if config.get("task") == "prior":
        raise InputError(
            f"{str(run)!r} is the run of a prior, which avq sample draws from. Give the run of an "
            "autoencoder."
        )
    if "model" not in config:
        raise InputError(f"{str(run)!r} is a run of another task. Give a run of an autoencoder.")
    config = _valid(config)
    with Checkpoints(run, read_only=True) as checkpoints:
        step, state = checkpoints.restore_arrays(step)
    model, expected = _model(config, run / CONFIG)
    player = state["players"].get(PLAYER, {"params": {}, "model_state": {}})
    variables = {"params": player["params"], **player["model_state"], **state["ema"]}
    if _shapes(variables) != _shapes(expected):
        raise InputError(
            f"{str(run)!r}: checkpoint {step} is of another model than its {CONFIG} describes. "
            "Put back a copy of the file."
        )
    return TrainedModel(model, variables, config, dataset, step)


def _released_config(folder: Path) -> dict[str, Any] | None:
    """The `config.json` of a released folder; None where there is none.

    Raises:
        InputError: for one that is damaged, too large or of a newer avq.
    """
    path = folder / CONFIG
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_CONFIG:
        raise InputError(f"{str(path)!r} has over {MAX_CONFIG:,} bytes: it is no config.")
    try:
        config = read_json(path)
    except RecursionError as error:
        raise InputError(f"{str(path)!r} is damaged (too deep). Put back a copy.") from error
    if not isinstance(config, dict) or config.get("kind") != KIND:
        return None
    if (number := config.get("format")) != FORMAT:
        raise InputError(f"{str(path)!r} has format {number!r}, newer than this avq. Update avq.")
    kinds = {"model": dict, "data": dict, "dataset": dict, "step": int, "digest": str}
    for name, kind in kinds.items():
        if not isinstance(config.get(name), kind):
            raise InputError(f"{str(path)!r} is damaged: {name!r} is missing. Put back a copy.")
    return config


def _released(file: Path, about: Mapping[str, Any], step: int | None) -> TrainedModel:
    if step not in (None, about["step"]):
        raise InputError(f"{str(file.parent)!r} has no step {step}, but {about['step']} alone.")
    config = _valid({"model": about["model"], "data": about["data"]})
    require_multiple(config["data"]["image_size"], _module(config).stride())
    model, expected = _model(config, file.parent / CONFIG)
    leaves, structure = jax.tree_util.tree_flatten_with_path(expected)
    tensors = read_tensors(file, {_name(path): leaf for path, leaf in leaves})
    variables = jax.tree.unflatten(structure, [tensors[_name(path)] for path, _ in leaves])
    if (actual := digest(model, variables)) != about["digest"]:
        raise InputError(
            f"{str(file)!r} is damaged: its digest is {actual}, and {CONFIG} says "
            f"{about['digest']}. Put back a copy of both."
        )
    return TrainedModel(model, variables, config, about["dataset"], about["step"])


def released_parts(trained: TrainedModel) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a released folder holds of a model: `config.json`, and tensors by name. Neither has
    names of images or a path of the machine that trained it.
    """
    config = trained.config
    summary = read_summary(trained.dataset, config["data"]["image_size"])
    leaves = jax.tree_util.tree_leaves_with_path(trained.variables)
    about = {
        "kind": KIND,
        "format": FORMAT,
        "step": trained.step,
        "digest": digest(trained.model, trained.variables),
        "model": config["model"],
        "data": config["data"] | {"path": ""},
        "dataset": asdict(replace(summary, rejected=[], unused={}, name_hashes={})),
    }
    return about, {_name(path): np.asarray(leaf) for path, leaf in leaves}


def digest(model: Any, variables: Mapping[str, Any]) -> str:
    """Sixteen letters that change with any parameter, codebook or statistic of a model, and with
    its compute type.
    """
    sha = hashlib.sha256(str(model.dtype).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        values = np.asarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape}".encode())
        sha.update(np.ascontiguousarray(values).tobytes())
    return sha.hexdigest()[:16]


def _valid(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the keys that are newer than it, if its sections can be used."""
    sections = {"model": model_kinds(), "data": (Data, Degradation)}
    whole = completed(config, sections)
    require_valid_config({name: whole[name] for name in sections}, sections)
    return whole


def _model(config: Mapping[str, Any], path: Path) -> tuple[VQVAE, Any]:
    """The module, and shapes and types of its variables."""
    with input_errors(str(path)):
        model = _module(config)
        return model, jax.eval_shape(lambda: _init(model))


def _module(config: Mapping[str, Any]) -> VQVAE:
    return make_autoencoder(config["model"], channels=config["data"]["channels"])


def _init(model: VQVAE) -> Mapping[str, Any]:
    image = jnp.zeros((1, model.stride(), model.stride(), model.channels))
    variables: Mapping[str, Any] = model.init(jax.random.key(0), image)
    return variables


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _shapes(variables: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in leaves}
