"""Task of a discrete autoencoder: an autoencoder alone, or against a discriminator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from avq import parallel
from avq.data.dataset import open_dataset
from avq.data.settings import Data
from avq.data.views import Degradation
from avq.errors import InputError
from avq.evaluate.evaluation import Evaluator, samples
from avq.evaluate.metrics.code_use import perplexity, usage
from avq.losses import Loss
from avq.losses.adversarial import gradient_penalty, lecam, updated_averages
from avq.losses.perceptual import read_lpips
from avq.models.build import make_autoencoder, make_discriminator, model_kinds, require_multiple
from avq.models.discriminator import Discriminator
from avq.pixels import to_float
from avq.settings import construct, setting
from avq.tasks.alarms import Ruin, collapse
from avq.tasks.image_data import ImageData, require_readable
from avq.tasks.objective import Objective
from avq.train.optim import Optim
from avq.train.state import AVERAGES
from avq.train.task import Alarm, Batch, Evaluation, Gradients, Params, Task, Variables
from avq.trained import PLAYER as VQVAE

DISCRIMINATOR = "discriminator"  # the other player
ALL_ALIKE = 1e-9  # variance of pixels in [-1, 1] that differ by rounding alone
SCANNED = 5_000  # test images that are decoded in seconds


@dataclass(frozen=True)
class PlayersOptim(Optim):
    """Settings of the optimisers of two players; the discriminator's is Adam."""

    discriminator_learning_rate: float = setting(1e-4, "that of the discriminator", low=0)
    discriminator_b1: float = setting(
        0.5, "Adam's decay of the discriminator's mean gradient", low=0, high=0.999999
    )


class Autoencoder(Task):
    """Trains `avq.models.vqvae.VQVAE` to reconstruct images, or those behind degraded ones, and a
    PatchGAN discriminator with it where `loss.adversarial_weight` is above 0.

    Attributes:
        model: the autoencoder.
        discriminator: None without one.
        pixel_variance: variance of the training pixels in [-1, 1], the paper's sigma; known once
            the data is open.
    """

    averaged = VQVAE
    best = ("psnr", "max")
    pixel_variance = 1.0

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.data = construct(Data, config["data"])
        self.degradation = construct(Degradation, config["data"])
        self.objective = Objective(construct(Loss, config["loss"]), parallel.AXIS)
        self.model = make_autoencoder(config["model"], parallel.AXIS, self.data.channels)
        self.dtype = config["model"]["dtype"]
        self.learning_rates = {VQVAE: self.optim.learning_rate}
        self.discriminator: Discriminator | None = None
        if self.objective.loss.adversarial_weight > 0:
            optim = construct(PlayersOptim, config["optim"])
            self.discriminator = make_discriminator(
                config["discriminator"], config["model"], axis_name=parallel.AXIS
            )
            self.learning_rates[DISCRIMINATOR] = optim.discriminator_learning_rate
            adam = replace(optim, optimizer="adam", weight_decay=0.0, b1=optim.discriminator_b1)
            self.optims = {DISCRIMINATOR: adam}
            self.starts = {DISCRIMINATOR: self.objective.loss.adversarial_start}
            if self.objective.loss.feature_matching and len(self.discriminator.filters) == 1:
                raise InputError(
                    "loss.feature_matching needs a discriminator with hidden layers, and "
                    "discriminator.filters has the logit alone. Give it more layers."
                )
        require_multiple(self.data.image_size, self.model.stride())
        if self.data.image_size % self.degradation.downscale:
            raise InputError(
                f"data.downscale={self.degradation.downscale} does not divide "
                f"data.image_size={self.data.image_size}. Give another."
            )

    @classmethod
    def sections(cls) -> dict[str, tuple[type, ...]]:
        return super().sections() | {
            "optim": (PlayersOptim,),
            "data": (Data, Degradation),
            "model": model_kinds(),
            "discriminator": (Discriminator,),
            "loss": (Loss,),
        }

    def init(self, player: str, key: Array) -> Variables:
        module: Any = self.model if player == VQVAE else self.discriminator
        size, channels = self.data.image_size, self.data.channels
        variables: Variables = module.init(key, jnp.zeros((1, size, size, channels)), train=False)
        if player == DISCRIMINATOR and self.objective.loss.lecam:
            # Near the logits of an untrained discriminator.
            return {**variables, AVERAGES: {"real": jnp.zeros(()), "fake": jnp.zeros(())}}
        return variables

    def gradients(
        self,
        params: Mapping[str, Params],
        model_state: Mapping[str, Variables],
        frozen: Mapping[str, Any],
        batch: Batch,
        key: Array,
        step: Array,
    ) -> Gradients:
        images = to_float(batch["image"])
        targets = to_float(batch.get("target", batch["image"]))
        start = self.objective.loss.adversarial_start
        adversarial_on = (step >= start).astype(jnp.float32)
        late = self.objective.loss.quantization_start
        quantizes = step >= late if late else None
        # A constant of the program, not an argument: XLA divides by the two with other rounding.
        frozen = {**frozen, "pixel_variance": self.pixel_variance}
        result, made = self._generator_gradients(
            params, model_state, frozen, images, targets, key, adversarial_on, quantizes
        )
        if self.discriminator is not None:
            gradients, mutated, metrics = self._discriminator_gradients(
                params[DISCRIMINATOR], model_state[DISCRIMINATOR], targets, made, adversarial_on
            )
            result.gradients[DISCRIMINATOR] = gradients
            result.model_state[DISCRIMINATOR] = mutated
            result.metrics.update(metrics)
        return result

    def _generator_gradients(
        self,
        params: Mapping[str, Params],
        model_state: Mapping[str, Variables],
        frozen: Mapping[str, Any],
        images: Float[Array, "b h w c"],
        targets: Float[Array, "b h w c"],
        key: Array,
        adversarial_on: Float[Array, ""],
        quantizes: Bool[Array, ""] | None,
    ) -> tuple[Gradients, Float[Array, "b h w c"]]:
        """The autoencoder's part of `gradients`, and its reconstructions."""
        module: Any = self.model

        def loss_of(own: Params) -> tuple[Array, Any]:
            outputs, mutated = module.apply(
                {"params": own, **model_state[VQVAE]},
                images,
                train=True,
                quantizes=quantizes,
                mutable=["batch_stats", "codebook"],
                rngs={"codebook": key},
            )
            discriminate = None
            if self.discriminator is not None:

                def discriminate(x: Array) -> tuple[Array, tuple[Array, ...]]:
                    opponent = params[DISCRIMINATOR], model_state[DISCRIMINATOR]
                    return self._discriminate(*opponent, x)[:2]

            loss, metrics = self.objective.generator_loss(
                outputs, targets, discriminate, adversarial_on, frozen
            )
            return loss, (metrics, dict(mutated), outputs)

        gradients, (metrics, mutated, outputs) = jax.grad(loss_of, has_aux=True)(params[VQVAE])
        statistics = tuple(level.statistics for level in outputs.levels)
        counts = {"codes": tuple(level.counts for level in statistics)}
        result = Gradients({VQVAE: gradients}, {VQVAE: mutated}, metrics, counts, statistics)
        return result, outputs.images

    def _discriminator_gradients(
        self,
        params: Params,
        model_state: Variables,
        targets: Float[Array, "b h w c"],
        images: Float[Array, "b h w c"],
        adversarial_on: Float[Array, ""],
    ) -> tuple[Params, Variables, dict[str, Array]]:
        """Gradients, model state and metrics of the discriminator."""
        weights = self.objective.loss

        def loss_of(own: Params) -> tuple[Array, Any]:
            real, _, mutated = self._discriminate(own, model_state, targets)
            fake, _, mutated = self._discriminate(own, mutated, lax.stop_gradient(images))
            loss, metrics = self.objective.discriminator_loss(real, fake, adversarial_on)
            if weights.r1:
                metrics["r1"] = gradient_penalty(
                    lambda x: self._discriminate(own, model_state, x)[0], targets
                )
                loss += adversarial_on * weights.r1 * metrics["r1"]
            if weights.lecam:
                averages = model_state[AVERAGES]
                metrics["lecam"] = lecam(real, fake, averages)
                loss += adversarial_on * weights.lecam * metrics["lecam"]
                mutated[AVERAGES] = updated_averages(averages, real, fake)
            return loss, (metrics, mutated)

        gradients, (metrics, mutated) = jax.grad(loss_of, has_aux=True)(params)
        return gradients, mutated, metrics

    def _discriminate(
        self, params: Params, model_state: Variables, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b i j 1"], tuple[Float[Array, "b _ _ _"], ...], dict[str, Any]]:
        """Logits of the discriminator, its features by layer, and its batch statistics after the
        batch.
        """
        module: Any = self.discriminator
        variables = {"params": params, **model_state}
        mutable = ["batch_stats", "intermediates"]
        logits, mutated = module.apply(variables, x, train=True, mutable=mutable)
        features = mutated.pop("intermediates", {}).get("features", ())
        return logits, features, dict(mutated)

    def frozen(self) -> Mapping[str, Any]:
        return {} if self._lpips is None else {"lpips": self._lpips}

    @cached_property
    def _lpips(self) -> Any:
        """Variables of the network of the term lpips; None where it has no weight."""
        loss = self.objective.loss
        if not loss.terms.get("lpips"):
            return None
        return read_lpips(loss.lpips_weights, self.data.image_size)

    def update_codebooks(
        self,
        params: Mapping[str, Params],
        model_state: Mapping[str, Variables],
        statistics: Sequence[Any],
    ) -> Mapping[str, Variables]:
        state = model_state[VQVAE]
        module: Any = self.model
        _, moved = module.apply(
            {"params": params[VQVAE], **state},
            statistics,
            method="update_codebooks",
            mutable=["codebook"],
        )
        return {**model_state, VQVAE: {**state, **moved}}

    def open_data(self, known: Mapping[str, Any] | None) -> ImageData:
        self.frozen()  # refuses unfit weights before a run's folder is there
        dataset = open_dataset(self.data, known)
        if len(dataset.test) <= SCANNED:
            require_readable(dataset.test)
        self.pixel_variance = dataset.summary.pixel_variance
        if self.pixel_variance < ALL_ALIKE:
            raise InputError(
                f"data.path: all training pixels of {self.data.path!r} have the same value, so "
                "there is nothing to learn. Check the images."
            )
        return ImageData(dataset, self.data, self.degradation, self.seed)

    def evaluator(self, data: ImageData, mesh: Mesh) -> Callable[[Variables], Evaluation]:
        evaluator, dataset = Evaluator(self.model, mesh, degradation=self.degradation), data.dataset
        shown = samples(dataset.test, self.data.image_size)

        def evaluate(variables: Variables) -> Evaluation:
            results = evaluator.evaluate(variables, dataset.test, dataset.summary, self.batch_size)
            return Evaluation(results.measures, {"samples": evaluator.grid(variables, shown)})

        return evaluate

    def interval(self, counts: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "usage": [usage(level) for level in counts["codes"]],
            "perplexity": [perplexity(level) for level in counts["codes"]],
        }

    def alarms(self) -> Sequence[Alarm]:
        if self.discriminator is None:
            return [collapse]
        return [collapse, Ruin(self.objective.loss.adversarial_start)]

    def data_headline(self, data: ImageData) -> str:
        counts, size = data.dataset.summary.counts, self.data.image_size
        return f"{counts['train']:,} images and {counts['test']:,} test images of {size}x{size}"

    def conclusion(self, run: str) -> str:
        return f"Pictures are in {run}/samples. Next: avq eval {run}"

    def headline(self, values: Mapping[str, Any]) -> str:
        perplexities = "/".join(f"{p:.0f}" for p in values["train/perplexity"])
        return (
            f"loss {values['train/loss']:.4f}  "
            f"reconstruction {values['train/reconstruction']:.4f}  perplexity {perplexities}"
        )

    def evaluation_headline(self, measures: Mapping[str, Any]) -> str:
        usages = "/".join(f"{share:.0%}" for share in measures["usage"])
        return (
            f"psnr {measures['psnr']:.2f} dB  ssim {measures['ssim']:.3f}  "
            f"mae/std {measures['mae_over_std']:.4f}  usage {usages}"
        )
