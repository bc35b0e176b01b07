"""Types of the leaves of states.

A state's class holds arrays, but passes through tree maps with shapes, shardings or numpy arrays in
their place. So type checkers see arrays, and run-time checks see anything.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax

    Leaf = jax.Array
else:
    Leaf = Any
