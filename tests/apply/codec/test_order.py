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
    grid, parent = np.arange(64).reshape(8, 8), np.arange(16).reshape(4, 4)
    first, middle, across, down = (
        (contexts(step, grid, parent, [64, 16]), step) for step in steps(8, 8, has_parent=True)
    )
    cross = [70, 69, 71, 66, 74]  # 65 more than the codes of the coarser level
    assert at(first, 2, 2) == [*cross, 65, 67, 73, 75, 64, 64, 64, 64]
    assert at(middle, 3, 3) == [18, 20, 34, 36, 16, 38, 4, 50, *cross]
    assert at(across, 2, 3) == [18, 20, 11, 27, 2, 4, 34, 36, *cross]
    assert at(down, 3, 2) == [25, 27, 18, 34, 17, 19, 33, 35, *cross]
    assert at(down, 7, 0) == [64, 57, 48, 64, 64, 49, 64, 64, 77, 81, 78, 73, 81]


def at(found, row, column):
    """Context of the code at a row and column."""
    known, step = found
    return known[(row - step.top) // step.spacing, (column - step.left) // step.spacing].tolist()


def test_an_image_takes_few_steps():
    assert len(list(steps(64, 64, has_parent=False))) == 7
    assert len(list(steps(64, 64, has_parent=True))) == 4
