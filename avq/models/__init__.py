"""Pure Flax modules; `build.py` makes them from a config."""
