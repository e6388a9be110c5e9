"""The initial state of a run: only parameters that come from nowhere else are initialised.

A program that initialises every matrix of two deep networks takes minutes to compile. If the Transformers come from a
model or another run, only a few small arrays are new: adapters and the discriminator's head.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.interpreters import partial_eval

from gptgan_jax.types import Array, PyTree


class Traced:
    """A function of a PRNG key, traced once; any part of its result can be computed by itself.

    Attributes:
        shapes: the result as shape structs.
    """

    def __init__(self, function: Callable[[Array], PyTree]) -> None:
        self._program, self.shapes = jax.make_jaxpr(function, return_shape=True)(jax.random.key(0))

    def some(self, key: Array, wanted: PyTree) -> PyTree:
        """The result where `wanted`, a tree of the same structure, is true; shape structs elsewhere.

        Only what is wanted is computed, one operation at a time, so that an operation on many small arrays of equal
        shape is compiled only once.
        """
        chosen = jax.tree.leaves(wanted)
        jaxpr: Any
        jaxpr, _ = partial_eval.dce_jaxpr(self._program.jaxpr, chosen, instantiate=True)
        values = iter(jax.core.eval_jaxpr(jaxpr, self._program.consts, key))
        return jax.tree.map(lambda one, leaf: next(values) if one else leaf, wanted, self.shapes)


def absent(tree: PyTree, given: PyTree) -> PyTree:
    """For each leaf of a tree of dictionaries, whether the other tree has nothing in its place."""
    if not isinstance(tree, dict):
        return False
    return {
        name: absent(value, given[name]) if name in given else jax.tree.map(lambda _: True, value)
        for name, value in tree.items()
    }
