"""Bounds and costs computed from the traced training step, without running it."""
