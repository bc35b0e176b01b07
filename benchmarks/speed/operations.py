"""Convolutions and matrix products of a training step on a CPU, by kind: number and time.

    python -m benchmarks.operations [--json FILE] [--runs N] [--config CONFIG]
        [--config.KEY=VALUE ...]

They are read from two compiled programs, of the reference operations and of ours, and each is timed
alone under the compiler options of its program. In the step itself those that do not wait for each
other overlap, so their times may add up to more than the step takes.
"""

import re
from collections import Counter
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from avq import cpu, tasks
from avq.bench import time_calls
from benchmarks._common import Row, make_parser, parse_with_config, random_training, write_json
from benchmarks.speed.reference_ops import reference_ops

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
        """Parses the numbers of e.g. `stride=2x2` or `lhs_batch_dims={0}`."""
        match = re.search(rf"\b{attribute}={{?([-\dx_,]+)", self.attributes)
        return tuple(map(int, re.split(between, match[1]))) if match else default

    def kind(self) -> str:
        """Class of the operation in the printed table."""
        if self.name == "dot":
            return "matrix product"
        dilated = ", transposed" if "lhs_dilate" in self.attributes else ""
        window = self.numbers("size", "x", (1, 1))
        role = "weight gradient" if max(window) > LARGEST_KERNEL else "convolution"
        return role + dilated

    def call(self, left: jax.Array, right: jax.Array) -> jax.Array:
        """Computes the operation in JAX."""
        if self.name == "dot":
            contracting, batch = (
                tuple(self.numbers(f"{side}_{dims}_dims", ",", ()) for side in ("lhs", "rhs"))
                for dims in ("contracting", "batch")
            )
            return lax.dot_general(left, right, (contracting, batch))
        labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", self.attributes)
        assert labels, self.attributes
        features, kernel = str.maketrans("b01f", "NHWC"), str.maketrans("01io", "HWIO")
        left_spec, right_spec, output_spec = labels.groups()
        low_high = self.numbers("pad", "[x_]", (0, 0, 0, 0))
        return lax.conv_general_dilated(
            left,
            right,
            self.numbers("stride", "x", (1, 1)),
            (low_high[:2], low_high[2:]),
            self.numbers("lhs_dilate", "x", (1, 1)),
            self.numbers("rhs_dilate", "x", (1, 1)),
            dimension_numbers=(
                left_spec.translate(features),
                right_spec.translate(kernel),
                output_spec.translate(features),
            ),
        )


def compiled_operations(program: str) -> Counter[Operation]:
    """Counts the convolutions and matrix products in the text of a compiled program."""
    shapes, matches = {}, []
    for name, shape, *operation in INSTRUCTION.findall(program):
        shapes[name] = tuple(int(side) for side in shape.split(",") if side)
        matches += [operation] if operation[0] else []
    return Counter(
        Operation(name, shapes[left], shapes[right], attributes.split(", metadata")[0])
        for name, left, right, attributes in matches
    )


def measure(settings: list[str], runs: int) -> Row:
    """Milliseconds of a step; number and milliseconds of its operations, by kind."""
    training, options = random_training(tasks.load(settings)), cpu.compiler_options()
    program, kinds = training.compiled.as_text() or "", dict[str, Any]()
    for operation, times in compiled_operations(program).items():
        arrays = jnp.ones(operation.left), jnp.ones(operation.right)
        call = jax.jit(operation.call, compiler_options=options)
        ms = time_calls(partial(call, *arrays), runs=runs).median
        sums = kinds.setdefault(operation.kind(), {"count": 0, "ms": 0.0})
        sums["count"] += times
        sums["ms"] += times * ms
    return {"step_ms": training.measure(2 * runs)["train"]["step_ms"], "kinds": kinds}


def main() -> None:
    arguments, settings = parse_with_config(make_parser(__doc__, runs=5))
    cpu.keep_memory()
    result: Row = {"config": settings}
    for name, context in (("plain", reference_ops()), ("ours", nullcontext())):
        with context:
            result[name] = measure(settings, arguments.runs)
        print(f"{name}: step {result[name]['step_ms']:.1f} ms")
        for kind, sums in sorted(result[name]["kinds"].items()):
            print(f"  {kind:<28}{sums['count']:>5}{sums['ms']:>10.1f} ms", flush=True)
    write_json(arguments.json, result)


if __name__ == "__main__":
    main()
