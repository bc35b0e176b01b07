"""Operations of traced programs against counts by hand."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from avq import parallel, program


def traced(function, *shapes):
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).trace(*inputs).jaxpr.jaxpr


def flops(function, *shapes):
    return program.matrix_flops(traced(function, *shapes))


def test_operations_of_a_product_and_of_its_gradient_are_those_of_a_hand_count():
    forward = 2 * 5 * 7 * 11
    assert flops(jnp.matmul, (5, 7), (7, 11)) == forward
    gradient = jax.grad(lambda a, b: jnp.sum((a @ b) ** 2), argnums=(0, 1))
    assert flops(gradient, (5, 7), (7, 11)) == 3 * forward


def test_operations_of_a_convolution_leave_out_the_padding():
    def conv(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    taps = (3 * 8 - 2) ** 2  # of a 3x3 kernel over 8x8 pixels, those inside
    assert flops(conv, (2, 8, 8, 3), (3, 3, 3, 5)) == 2 * 2 * taps * 3 * 5


def test_operations_in_a_loop_count_as_often_as_they_run():
    def looped(a):
        return lax.map(lambda x: lax.map(lambda y: y @ y, x), a)

    assert flops(looped, (3, 4, 5, 5)) == 3 * 4 * 2 * 5**3


def test_operations_whose_results_nothing_uses_do_not_count():
    assert flops(lambda a, b: (a @ b, a @ b @ b)[0], (5, 5), (5, 5)) == 2 * 5**3


def test_operations_are_those_of_all_devices():
    part = P(parallel.AXIS)
    mesh = parallel.make_mesh(4)
    split = jax.shard_map(lambda a: a @ a.T, mesh=mesh, in_specs=part, out_specs=part)
    assert flops(split, (8, 3)) == 4 * (2 * 2 * 3 * 2)


def test_scope_names_the_modules_around_an_operation():
    def named(a):
        with jax.named_scope("outer"), jax.named_scope("inner"):
            return a @ a

    scopes = [
        operation.scope
        for operation in program.operations(traced(named, (3, 3)))
        if operation.equation.primitive.name == "dot_general"
    ]
    assert len(scopes) == 1
    assert scopes[0].endswith("outer/inner")


def test_bytes_are_those_of_all_arrays():
    (product,) = program.operations(traced(lambda a, b: lax.dot(a, b), (5, 7), (7, 11)))
    assert program.array_bytes(product.equation.invars) == 4 * (5 * 7 + 7 * 11)
    assert program.array_bytes(product.equation.outvars) == 4 * 5 * 11
