"""Where a training step spends its time on a CPU, before and after: its operations by kind.

    python -m benchmarks.operations [--json FILE] [--config=CONFIG --config.KEY=VALUE ...]

Convolutions and matrix products are read from the compiled program of our plain formulation and of
the one in use, and each is timed alone under the compiler options of its program. In the step
itself those that do not wait for each other overlap, so that the parts may exceed it.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from avq import config as configs
from avq import cpu
from avq.bench import Training, checked, time_calls
from benchmarks.inputs import random_images
from benchmarks.plain import plain_formulation
from benchmarks.studies import settings_and_json

LARGEST_KERNEL = 3  # of the models; a wider window is an image, in a weight gradient
INSTRUCTION = re.compile(
    r"%?([\w.-]+) = f32\[([\d,]*)\]\S* (?:(convolution|dot)\(%?([\w.-]+), %?([\w.-]+)\), (.*))?"
)


class Operation(NamedTuple):
    """A convolution or matrix product of a compiled program, as XLA writes it."""

    name: str
    left: tuple[int, ...]
    right: tuple[int, ...]
    attributes: str

    def numbers(self, attribute: str, between: str, default: Any) -> Any:
        """The numbers of e.g. `stride=2x2` or `lhs_batch_dims={0}`."""
        found = re.search(rf"\b{attribute}={{?([-\dx_,]+)", self.attributes)
        return tuple(map(int, re.split(between, found[1]))) if found else default

    def kind(self) -> str:
        if self.name == "dot":
            return "matrix product"
        dilated = ", transposed" if "lhs_dilate" in self.attributes else ""
        window = self.numbers("size", "x", (1, 1))
        what = "weight gradient" if max(window) > LARGEST_KERNEL else "convolution"
        return what + dilated

    def call(self, left: jax.Array, right: jax.Array) -> jax.Array:
        if self.name == "dot":
            contracting, batch = (
                tuple(self.numbers(f"{side}_{dims}_dims", ",", ()) for side in ("lhs", "rhs"))
                for dims in ("contracting", "batch")
            )
            return lax.dot_general(left, right, (contracting, batch))
        labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", self.attributes)
        assert labels, self.attributes
        features, kernel = str.maketrans("b01f", "NHWC"), str.maketrans("01io", "HWIO")
        tables = (features, kernel, features)
        spec = [label.translate(t) for label, t in zip(labels.groups(), tables, strict=True)]
        low_high = self.numbers("pad", "[x_]", (0, 0, 0, 0))
        return lax.conv_general_dilated(
            left,
            right,
            self.numbers("stride", "x", (1, 1)),
            (low_high[:2], low_high[2:]),
            self.numbers("lhs_dilate", "x", (1, 1)),
            self.numbers("rhs_dilate", "x", (1, 1)),
            dimension_numbers=tuple(spec),
        )


def operations(program: str) -> Counter[Operation]:
    """The convolutions and matrix products of a program's text, and how often each stands there."""
    shapes, found = {}, []
    for name, shape, *operation in INSTRUCTION.findall(program):
        shapes[name] = tuple(int(side) for side in shape.split(",") if side)
        found += [operation] if operation[0] else []
    return Counter(
        Operation(name, shapes[left], shapes[right], attributes.split(", metadata")[0])
        for name, left, right, attributes in found
    )


def measure(settings: list[str]) -> dict[str, Any]:
    """Milliseconds of a step, and by kind of operation how many there are and what they take."""
    config = configs.load(settings)
    images, options = random_images(config), cpu.compiler_options()
    training = Training(config, *checked(config))
    kinds: dict[str, Any] = {}
    for operation, times in operations(training.compiled.as_text()).items():
        arrays = jnp.ones(operation.left), jnp.ones(operation.right)
        call: Callable[..., Any] = jax.jit(operation.call, compiler_options=options)
        ms = time_calls(lambda call=call, arrays=arrays: call(*arrays), runs=5).median
        sums = kinds.setdefault(operation.kind(), {"count": 0, "ms": 0.0})
        sums["count"] += times
        sums["ms"] += times * ms
    return {"step_ms": training.measure(images, runs=10)["train"]["step_ms"], "kinds": kinds}


def main() -> None:
    settings, json_file = settings_and_json()
    cpu.keep_memory()
    result: dict[str, Any] = {"jax": jax.__version__, "config": settings}
    for name, formulation in (("plain", plain_formulation()), ("ours", nullcontext())):
        with formulation:
            result[name] = measure(settings)
        print(f"{name}: step {result[name]['step_ms']:.1f} ms")
        for kind, sums in sorted(result[name]["kinds"].items()):
            print(f"  {kind:<28}{sums['count']:>5}{sums['ms']:>10.1f} ms", flush=True)
    if json_file:
        json_file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
