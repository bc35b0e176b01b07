"""Task of a prior: the distribution of the codes of a trained autoencoder."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from avq import cpu, parallel
from avq.apply.pictures import tiled
from avq.apply.prior import BEST, PLAYER
from avq.apply.sample import GROUP, Sampler
from avq.apply.tokenizer import Tokenizer, load
from avq.errors import InputError
from avq.models.build import make_prior, prior_kinds
from avq.models.prior import Drawing
from avq.models.prior.vectors import with_vectors
from avq.settings import construct, setting
from avq.tasks.prior_data import CodeData, CodeSettings, LabelledCodes, open_codes
from avq.train.task import Batch, Evaluation, Gradients, Params, Task, Variables


@dataclass(frozen=True)
class TokenizerChoice:
    """The setting that chooses the autoencoder."""

    tokenizer: str = setting(
        "",
        "run of the autoencoder whose codes are modelled, or what avq export wrote, or the name of "
        "a model that comes with avq; known by its digest, so that it may move",
        free=True,
    )


class PriorTask(Task):
    """Trains a prior of `avq.models.prior` on the codes of images.

    Attributes:
        model: the prior; it has no labels before the data is open.
    """

    averaged = PLAYER
    best = BEST

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.data = construct(CodeSettings, config["data"])
        self.learning_rates = {PLAYER: self.optim.learning_rate}
        self.model = self._model(classes=0)

    @classmethod
    def sections(cls) -> dict[str, tuple[type, ...]]:
        top = super().sections()[""]
        return super().sections() | {
            "": (*top, TokenizerChoice),
            "data": (CodeSettings,),
            "model": prior_kinds(),
        }

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The autoencoder."""
        if not (name := self.config["tokenizer"]):
            raise InputError(
                "tokenizer is not set: a prior models the codes of a trained autoencoder. Give "
                "--config.tokenizer=RUN."
            )
        return load(name)

    def _model(self, classes: int) -> Any:
        tokenizer = self.tokenizer
        grids = tokenizer.grids(tokenizer.image_size, tokenizer.image_size)
        return make_prior(self.config["model"], grids, tokenizer.codebook_sizes, classes)

    def init(self, player: str, key: Array) -> Variables:
        codes = tuple(jnp.zeros((1, *grid), jnp.int32) for grid in self.model.grids)
        labels = jnp.zeros(1, jnp.int32)
        keys = dict(zip(("params", "mask"), jax.random.split(key), strict=True))
        variables = self.model.init(keys, codes, labels, method="nats")
        return {"params": with_vectors(variables["params"], self.tokenizer.codebooks, key)}

    def gradients(
        self,
        params: Mapping[str, Params],
        model_state: Mapping[str, Variables],
        frozen: Mapping[str, Any],
        batch: Batch,
        key: Array,
        step: Array,
    ) -> Gradients:
        rows = len(batch["label"])
        numbers = lax.axis_index(parallel.AXIS) * rows + jnp.arange(rows)  # in the global batch
        keys = jax.vmap(partial(jax.random.fold_in, key))(numbers)

        def loss_of(own: Params) -> tuple[Array, dict[str, Array]]:
            nats: Any = jax.vmap(partial(self._nats, own))(batch["codes"], batch["label"], keys)
            loss = sum(level.sum() for level in nats) / sum(level.size for level in nats)
            bits = {f"bits_per_code/level{i + 1}": level.mean() for i, level in enumerate(nats)}
            each = {"bits_per_code": loss, **bits}
            return loss, {"loss": loss} | {name: v / math.log(2) for name, v in each.items()}

        gradients, metrics = jax.grad(loss_of, has_aux=True)(params[PLAYER])
        return Gradients({PLAYER: gradients}, {PLAYER: {}}, metrics)

    def _nats(
        self, params: Params, codes: tuple[Array, ...], label: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[Float[Array, "_h _w"], ...]:
        """Nats of an image's codes by level in training. What is drawn for it, labels to hide among
        it, depends on its key alone, and so not on the number of devices.
        """
        hide, dropout, mask = jax.random.split(key, 3)
        hidden = jax.random.bernoulli(hide, self.data.unlabelled)
        nats = self.model.apply(
            {"params": params},
            jax.tree.map(lambda grid: grid[None], codes),
            jnp.where(hidden, self.model.classes, label)[None],
            train=True,
            rngs={"dropout": dropout, "mask": mask},
            method="nats",
        )
        return tuple(level[0] for level in nats)

    def open_data(self, known: Mapping[str, Any] | None) -> CodeData:
        if known and known["tokenizer"] != self.tokenizer.digest:
            raise InputError(
                f"tokenizer={self.config['tokenizer']!r} has digest {self.tokenizer.digest}, and "
                f"the run was begun with {known['tokenizer']}. Give that one."
            )
        folder = open_codes(self.data.path, self.tokenizer, self.folder)
        data = CodeData(folder, self.tokenizer, self.data, self.seed)
        if known and known["source"] != data.summary["source"]:
            raise InputError("data.path: the images changed since the run began. Restore them.")
        self.model = self._model(len(data.classes))
        return data

    def evaluator(self, data: CodeData, mesh: Mesh) -> Callable[[Variables], Evaluation]:
        measure = jax.jit(
            self._summed,
            out_shardings=parallel.replicated(mesh),
            compiler_options=cpu.compiler_options(),
        )
        parts = {"": data.test, "train_": data.train.evenly(len(data.test))}
        sampler = Sampler(self.model, self.tokenizer, Drawing(), parallel.local_mesh())
        codes_of = [height * width for height, width in self.model.grids]

        def bits_of_levels(variables: Variables, part: LabelledCodes) -> np.ndarray:
            total = np.zeros(len(codes_of))
            for number, (batch, mask) in enumerate(part.in_order(self.batch_size)):
                rows = parallel.shard_batch({**batch, "mask": mask}, mesh)
                total += jax.device_get(measure(variables, rows, np.uint32(number)))
            return total / len(part) / math.log(2)

        def evaluate(variables: Variables) -> Evaluation:
            measures: dict[str, Any] = {}
            for name, part in parts.items():
                bits = bits_of_levels(variables, part)
                each = [float(b / n) for b, n in zip(bits, codes_of, strict=True)]
                measures[f"{name}bits_per_code"] = float(bits.sum() / sum(codes_of))
                measures[f"{name}bits_per_code_by_level"] = each
                measures[f"{name}bits_per_dim"] = float(bits.sum() / self.tokenizer.dimensions)
            local = jax.device_get(variables)
            labels = np.arange(GROUP, dtype=np.int32) % max(1, len(data.classes))
            (images,) = sampler.groups(local, [0], self.seed, labels)
            return Evaluation(measures, {"samples": tiled(list(images), columns=8)})

        return evaluate

    def _summed(self, variables: Variables, batch: Batch, number: Array) -> Float[Array, " levels"]:
        """Nats of the codes of a batch by level, over the rows of its mask."""
        mask: Bool[Array, b] = batch["mask"]
        rngs = {"mask": jax.random.fold_in(jax.random.key(0), number)}
        nats = self.model.apply(variables, batch["codes"], batch["label"], rngs=rngs, method="nats")
        return jnp.stack([jnp.sum(level * mask[:, None, None]) for level in nats])

    def data_headline(self, data: CodeData) -> str:
        counts, levels = (
            data.summary["counts"],
            zip(self.model.grids, self.model.codebook_sizes, strict=True),
        )
        grids = " and ".join(f"{h}x{w} of {size:,}" for (h, w), size in levels)
        classes = f" in {len(data.classes)} classes" if data.classes else ""
        return (
            f"codes of {counts['train']:,} images and {counts['test']:,} test images{classes}, "
            f"{grids}"
        )

    def conclusion(self, run: str) -> str:
        return f"Samples are in {run}/samples. Next: avq sample {run} -n 64 -o samples"

    def headline(self, values: Mapping[str, Any]) -> str:
        return f"{values['train/bits_per_code']:.3f} bits a code"

    def evaluation_headline(self, measures: Mapping[str, Any]) -> str:
        word = "" if self.model.exact else "at most "
        levels = "/".join(f"{bits:.3f}" for bits in measures["bits_per_code_by_level"])
        return (
            f"{word}{measures['bits_per_code']:.3f} bits a code ({levels}), "
            f"{measures['train_bits_per_code']:.3f} of training images, "
            f"{measures['bits_per_dim']:.4f} a dimension"
        )
