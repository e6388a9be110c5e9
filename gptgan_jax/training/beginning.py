"""What a run begins with: only those parameters are initialised that nothing else gives.

A program that initialises every matrix of two deep networks takes minutes to compile. Where the Transformers come from
a model or another run, what is new is a few small arrays: adapters and the discriminator's head.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.interpreters import partial_eval

from gptgan_jax.types import Array, PyTree


class Traced:
    """A function of a PRNG key, traced once, of whose value any part can be computed.

    Attributes:
        shapes: of its value, as shape structs.
    """

    def __init__(self, function: Callable[[Array], PyTree]) -> None:
        self._program, self.shapes = jax.make_jaxpr(function, return_shape=True)(jax.random.key(0))

    def some(self, key: Array, wanted: PyTree) -> PyTree:
        """Its value where `wanted`, a tree of its structure, is true; elsewhere the shape struct.

        Nothing else is computed, and operations run one by one: what many small arrays of equal shape have in common is
        compiled once for all of them.
        """
        chosen = jax.tree.leaves(wanted)
        jaxpr: Any
        jaxpr, _ = partial_eval.dce_jaxpr(self._program.jaxpr, chosen, instantiate=True)
        values = iter(jax.core.eval_jaxpr(jaxpr, self._program.consts, key))
        return jax.tree.map(lambda one, leaf: next(values) if one else leaf, wanted, self.shapes)


def absent(tree: PyTree, given: PyTree) -> PyTree:
    """For each leaf of a tree of dictionaries, whether the other tree has none in its place."""
    if not isinstance(tree, dict):
        return False
    return {
        name: absent(value, given[name]) if name in given else jax.tree.map(lambda _: True, value)
        for name, value in tree.items()
    }
