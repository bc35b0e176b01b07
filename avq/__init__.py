"""Discrete image autoencoders in JAX, after Attentive VQ-VAE (Rivera and Hoyos, 2023)."""

from avq.apply.tokenizer import Tokenizer, load

__all__ = ["Tokenizer", "__version__", "load"]
__version__ = "0.1.0"
