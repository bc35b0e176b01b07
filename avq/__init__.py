"""Discrete image autoencoders in JAX, after Attentive VQ-VAE (Rivera and Hoyos, 2023)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avq.apply.tokenizer import Tokenizer, load

__all__ = ["Tokenizer", "__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # JAX takes seconds to import; commands that need none of it start at once.
    if name in ("Tokenizer", "load"):
        from avq.apply import tokenizer

        return getattr(tokenizer, name)
    raise AttributeError(f"module 'avq' has no attribute {name!r}")
