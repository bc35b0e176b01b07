"""A trained prior in a few words: likelihood of codes, and codes drawn from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from avq import cpu
from avq.apply.tokenizer import Tokenizer, load
from avq.checkpoint import Best, Checkpoints
from avq.config import CONFIG, DATASET, completed, input_errors, read_config
from avq.errors import InputError
from avq.json_files import read_json
from avq.models.build import make_prior, prior_kinds
from avq.models.prior import PriorModule
from avq.storage.copies import local
from avq.trained import digest

PLAYER = "prior"  # name of the prior in a checkpoint
BEST: Best = ("bits_per_code", "min")
AT_ONCE = 16  # images
Codes = tuple[Int[np.ndarray, "b _h _w"], ...]  # finest level first


@dataclass(frozen=True)
class Prior:
    """A prior and the autoencoder whose codes it models.

    Attributes:
        module: the prior.
        variables: its averaged parameters.
        tokenizer: the autoencoder.
        classes: names of the labels, by number.
        step: of the checkpoint.
    """

    module: PriorModule
    variables: dict[str, Any]
    tokenizer: Tokenizer
    classes: tuple[str, ...]
    step: int

    @cached_property
    def digest(self) -> str:
        """Sixteen letters that change with any parameter of the prior."""
        return digest(self.module, self.variables)

    def label(self, name: str | None) -> int:
        """Number of a class; that of no class for None.

        Raises:
            InputError: for a class that the prior does not have.
        """
        if name is None:
            return len(self.classes)
        if name not in self.classes:
            there = f"There are: {', '.join(self.classes)}." if self.classes else "It has none."
            raise InputError(f"the prior has no class {name!r}. {there}")
        return self.classes.index(name)

    def bits(
        self, codes: Sequence[Any], labels: Any = None
    ) -> tuple[Float[np.ndarray, "b _h _w"], ...]:
        """Bits of each code given those before it, finest level first: what an ideal coder would
        need for it. Where `module.exact` is false, one estimate of a bound of them, by a mask that
        is the same at every call.

        Args:
            codes: grids `[b, h, w]`, finest level first, of images of the prior's size.
            labels: numbers `[b]` of their classes; None for no class.
        """
        count = len(codes[0])
        numbers = np.full(count, len(self.classes)) if labels is None else np.asarray(labels)
        parts = []
        for start in range(0, count, AT_ONCE):
            rows = np.minimum(np.arange(start, start + AT_ONCE), count - 1)
            batch = tuple(np.asarray(level)[rows].astype(np.int32) for level in codes)
            parts.append(self._nats(self.variables, batch, numbers[rows].astype(np.int32), start))
        return tuple(
            np.concatenate(level)[:count] / np.log(2) for level in zip(*parts, strict=True)
        )

    @cached_property
    def _nats(self) -> Any:
        module: Any = self.module

        def nats(variables: Any, codes: Any, labels: Array, start: Array) -> Any:
            rngs = {"mask": jax.random.fold_in(jax.random.key(0), start)}
            return module.apply(variables, codes, labels, rngs=rngs, method="nats")

        return jax.jit(nats, compiler_options=cpu.compiler_options("inference"))


def load_prior(
    run: str | Path, step: int | None = None, tokenizer: str | Path | Tokenizer = ""
) -> Prior:
    """The prior of a run.

    Args:
        run: folder of the training of a prior.
        step: of the checkpoint; None for the one with the best held-out likelihood.
        tokenizer: the autoencoder, where it has moved or is loaded; '' for the path in the run's
            config.

    Raises:
        InputError: for a folder that is no such run or damaged, and for an autoencoder that is
            another than the prior was trained with.

    Example:
        prior = load_prior("runs/prior")
        bits = prior.bits(prior.tokenizer.encode(images))
    """
    run = local(run)
    config, dataset = read_config(run), read_json(run / DATASET)
    if config is None or dataset is None or config.get("task") != PLAYER:
        raise InputError(
            f"{str(run)!r} is not the run of a prior. Give the --workdir of a training of "
            "configs/prior.py."
        )
    config = completed(config, {"model": prior_kinds()})
    given = tokenizer or config["tokenizer"]
    model = given if isinstance(given, Tokenizer) else load(given)
    if model.digest != dataset["tokenizer"]:
        raise InputError(
            f"the autoencoder {str(given)!r} has digest {model.digest}, and the prior models the "
            f"codes of {dataset['tokenizer']}. Give that one as --tokenizer."
        )
    classes = tuple(dataset["classes"])
    grids = model.grids(model.image_size, model.image_size)
    with input_errors(str(run / CONFIG)):
        module = make_prior(config["model"], grids, model.codebook_sizes, len(classes))
    with Checkpoints(run, best=BEST, read_only=True) as checkpoints:
        chosen = checkpoints.best() if step is None else step
        step, state = checkpoints.restore_arrays(chosen)
    variables = {"params": state["ema"]["params"]}
    if jax.tree.map(np.shape, variables) != _shapes(module):
        raise InputError(
            f"{str(run)!r} has other parameters than its {CONFIG} asks for: it is damaged, or of "
            "another avq. Put back a copy, or train it again."
        )
    return Prior(module, jax.device_put(variables), model, classes, step)


def _shapes(module: PriorModule) -> Any:
    """Shapes of a prior's parameters."""
    init: Any = module.init

    def start() -> Any:
        codes = tuple(jnp.zeros((1, *grid), jnp.int32) for grid in module.grids)
        keys = dict.fromkeys(("params", "mask"), jax.random.key(0))
        return init(keys, codes, jnp.zeros(1, jnp.int32), method="nats")

    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(start))
