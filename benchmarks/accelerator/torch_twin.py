"""The first case beside its PyTorch twin, eager and compiled."""

from collections.abc import Sequence
from functools import cached_property, partial
from importlib.util import find_spec
from typing import Any

import jax

from avq.workers import usable_cores
from benchmarks._common import Row, medians_in_turns
from benchmarks.accelerator.parts import Case, LeftOut, Shared, rounded

CALLS = ("train", "encode", "decode")


class Twins:
    """Both sides, each made when it is first asked for.

    Args:
        shared: with the first case's training.
        device: of PyTorch.
    """

    def __init__(self, shared: Shared, device: str) -> None:
        self.shared, self.device = shared, device
        self.config = shared.config(*shared.first)

    @cached_property
    def ours(self) -> Any:
        """Our calls."""
        from benchmarks.speed.peer_calls import AvqCalls

        return AvqCalls(self.shared.training)

    @cached_property
    def eager(self) -> Any:
        """The twin's calls, with our variables."""
        from benchmarks.speed.peer_calls import TorchCalls

        return TorchCalls(self.config, self.ours, self.device)

    @cached_property
    def compiled(self) -> Any:
        """The same by torch.compile."""
        from benchmarks.speed.peer_calls import TorchCalls

        if not self.shared.sizes.torch_compile:
            raise LeftOut("torch.compile takes minutes on a CPU; benchmarks.peers measures it")
        return TorchCalls(self.config, self.ours, self.device).compiled()

    def agree(self) -> Row:
        """Whether codes and images are equal but for rounding, before the twin is trained."""
        from benchmarks.speed.peer_calls import require_equal

        require_equal(self.ours, self.eager, self.config.model.dtype)
        return {"passed": True}

    def compare(self, what: str, form: str) -> Row:
        """Times one call of both sides in turns."""
        import torch

        calls = {"ours": getattr(self.ours, what), "twin": getattr(getattr(self, form), what)}
        medians = medians_in_turns(calls, rounds=3, runs=self.shared.sizes.runs)
        torch.cuda.empty_cache()  # gives back what JAX needs for larger batches
        batch = self.shared.first[1]
        return {
            "ours_ms": rounded(medians["ours"]),
            "twin_ms": rounded(medians["twin"]),
            "ours_images_per_s": rounded(1e3 * batch / medians["ours"]),
            "times_faster": rounded(medians["twin"] / medians["ours"]),
        }


def cases(shared: Shared) -> Sequence[Case]:
    """Agreement, then training, encoding and decoding beside each form of the twin.

    Raises:
        LeftOut: without PyTorch for this device.
    """
    if find_spec("torch") is None:
        raise LeftOut("torch is not installed")
    import torch

    on_gpu = jax.default_backend() == "gpu"
    if on_gpu and not torch.cuda.is_available():
        raise LeftOut("torch sees no GPU")
    torch.set_num_threads(usable_cores())
    torch.backends.cudnn.benchmark = True  # chooses algorithms by trying them, as XLA does
    twins = Twins(shared, "cuda" if on_gpu else "cpu")
    system, batch, precision = shared.first
    about: Row = {
        "system": system,
        "batch": batch,
        "precision": precision,
        "torch": torch.__version__,
    }
    return [
        Case(about | {"what": "agreement"}, twins.agree, compiles=True),
        *(
            Case(about | {"what": what, "twin": form}, partial(twins.compare, what, form))
            for what in CALLS
            for form in ("eager", "compiled")
        ),
    ]
