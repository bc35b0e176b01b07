"""Studies of speed and memory; each is `python -m benchmarks.NAME --json FILE`."""
