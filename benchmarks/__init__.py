"""Benchmarks; `python -m benchmarks` lists them, `python -m benchmarks.NAME` runs one."""

from pathlib import Path

# `python -m benchmarks.NAME` finds the modules of every subfolder.
__path__ += [str(folder.parent) for folder in sorted(Path(__file__).parent.glob("*/__init__.py"))]
