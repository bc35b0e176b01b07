"""Operations of a traced program: how often each runs, its FLOPs and its bytes."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.extend.core import (  # type: ignore[attr-defined, unused-ignore]
    ClosedJaxpr,  # JAX 0.12 has it, but not in its type stubs
    Jaxpr,
    JaxprEqn,
)

MATRIX_OPERATIONS = ("dot_general", "conv_general_dilated")


class Operation(NamedTuple):
    """An operation of a program.

    Attributes:
        equation: primitive, parameters, inputs and outputs.
        repeats: how often it runs, over all devices and iterations of loops.
        scope: names of the modules that it was traced in, as 'VQVAE/encoder/stem'.
    """

    equation: JaxprEqn
    repeats: int
    scope: str


def operations(program: Jaxpr) -> Iterator[Operation]:
    """Yields every operation of a program, an enclosing one before those inside it, but for those
    whose results nothing uses, which a compiler leaves out.

    Every branch of a condition is yielded. The body of a `scan` is repeated as often as it runs;
    that of a `while`, whose number of runs is not in the program, counts once.
    """
    return _operations_within(program, 1, "")


def _operations_within(program: Jaxpr, repeats: int, scope: str) -> Iterator[Operation]:
    for equation in _used(program):
        name, params = equation.primitive.name, equation.params
        names = f"{scope}/{equation.source_info.name_stack}"
        yield Operation(equation, repeats, names)
        for body in _programs_in(params):
            yield from _operations_within(body, repeats * _iterations(name, params), names)


def _used(program: Jaxpr) -> list[JaxprEqn]:
    """Equations with an effect, or with a result that the program or another such one uses."""
    needed, used = set(map(id, program.outvars)), []
    for equation in reversed(program.eqns):
        if equation.effects or not needed.isdisjoint(map(id, equation.outvars)):
            used.append(equation)
            needed.update(map(id, equation.invars))
    return used[::-1]


def _iterations(name: str, params: Mapping[str, Any]) -> int:
    """Number of runs of an operation's body."""
    if name == "scan":
        return int(params["length"])
    return int(params["mesh"].size) if name == "shard_map" else 1


def _programs_in(params: Mapping[str, Any]) -> Iterator[Jaxpr]:
    for value in params.values():
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, ClosedJaxpr):
                yield part.jaxpr
            elif isinstance(part, Jaxpr):
                yield part


def matrix_flops(program: Jaxpr) -> float:
    """FLOPs of a program's matrix products and convolutions, over all devices.

    Nothing else counts: it is no work for matrix units. XLA's analysis of a whole program counts
    the body of a loop once, and an array split over devices for one of them; so it is asked about
    single operations only.
    """
    return sum(repeats * flops(equation) for equation, repeats, _ in operations(program))


def flops(equation: JaxprEqn) -> float:
    """FLOPs of one run of a matrix product or a convolution; 0 for any other operation."""
    if equation.primitive.name not in MATRIX_OPERATIONS:
        return 0.0
    arrays: Any = [variable.aval for variable in equation.invars]
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]
    alone = jax.jit(partial(equation.primitive.bind, **equation.params))
    costs: Any = alone.lower(*shapes).cost_analysis()
    return float(costs["flops"])


def array_bytes(variables: Iterable[Any]) -> int:
    """Bytes of an operation's inputs or outputs."""
    arrays = [variable.aval for variable in variables]
    return sum(a.size * a.dtype.itemsize for a in arrays)
