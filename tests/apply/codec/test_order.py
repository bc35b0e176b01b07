"""Order of coding: every code once, each from known ones alone."""

import numpy as np
import pytest

from avq.apply.codec.order import contexts, kinds, steps

SHAPES = [(1, 1), (1, 2), (2, 1), (3, 5), (8, 8), (7, 16), (1, 33), (0, 0), (0, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("has_parent", [False, True])
def test_steps_cover_a_grid_once(shape, has_parent):
    times = np.zeros(shape, int)
    for step in steps(shape[0], shape[1], has_parent):
        times[step.places] += 1
        assert step.kind < kinds(has_parent)
    assert (times == 1).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("has_parent", [False, True])
def test_contexts_are_the_same_before_and_after_their_codes_are_known(shape, has_parent):
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 50, shape)
    parent = rng.integers(0, 60, (shape[0] // 2 + 1, shape[1] // 2 + 1)) if has_parent else None
    known = np.full(shape, 49)
    for step in steps(shape[0], shape[1], has_parent):
        before = contexts(step, known, parent, [50, 60])
        np.testing.assert_array_equal(before, contexts(step, grid, parent, [50, 60]))
        known[step.places] = grid[step.places]


def test_context_of_a_code_is_what_lies_around_it():
    grid, parent = np.arange(16).reshape(4, 4), np.arange(4).reshape(2, 2)
    *_, middle, across, down = steps(4, 4, has_parent=True)
    (codes,) = contexts(middle, grid, parent, [16, 4])[1:, 1]
    assert codes.tolist() == [10, 16, 16, 16, 0, 1, 4, 2, 3, 4, 4, 4, 4]
    (codes,) = contexts(across, grid, parent, [16, 4])[1:, 0]
    assert codes.tolist() == [8, 10, 5, 13, 4, 0, 1, 4, 2, 3, 4, 4, 4]
    assert contexts(down, grid, parent, [16, 4])[0, 1, :4].tolist() == [5, 7, 2, 10]


def test_an_image_takes_few_steps():
    assert len(list(steps(64, 64, has_parent=False))) == 19
    assert len(list(steps(64, 64, has_parent=True))) == 4
