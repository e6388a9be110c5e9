"""Trees of parameters, nested dicts of arrays or shape structs: counting, splitting and joining them by paths."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax

from gptgan_jax.errors import suggests_names
from gptgan_jax.types import Params, PyTree


def flat(tree: PyTree) -> dict[str, Any]:
    """The leaves of any tree by path, such as generator/params/trunk/embedding/table."""
    return {path_in(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def nested(leaves: Mapping[str, Any]) -> Params:
    """The nested dicts from which `flat` was made."""
    tree: Params = {}
    for path, x in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = x
    return tree


def parted(params: Params, chosen: Callable[[str], bool]) -> tuple[Params, Params]:
    """The parameters whose path is chosen, and the others; `joined` puts the two together.

    Args:
        params: nested dicts.
        chosen: whether a path, such as trunk/embedding/table, is chosen.
    """
    leaves = flat(params)
    taken = {path for path in leaves if chosen(path)}
    return (
        nested({path: x for path, x in leaves.items() if path in taken}),
        nested({path: x for path, x in leaves.items() if path not in taken}),
    )


def joined(one: Params, other: Params) -> Params:
    """The parameters of both trees; the first has precedence."""
    if not other:
        return one
    both = {name: joined(one[name], other[name]) for name in one.keys() & other.keys() if isinstance(one[name], dict)}
    return {**other, **one, **both}


def without(params: Params, others: Params, same: Callable[[Any, Any], bool] = operator.is_) -> Params:
    """The parameters without those that another tree has too.

    Args:
        params, others: the two trees.
        same: whether two parameters at the same path are equal; by default if they are the same array.
    """
    known = flat(others)
    return nested({path: x for path, x in flat(params).items() if path not in known or not same(x, known[path])})


def path_in(path: tuple[Any, ...]) -> str:
    """The name of a leaf from its `jax.tree_util` path of keys, fields and indices."""
    kinds = ("key", "name", "idx")
    return "/".join(str(next(getattr(part, kind) for kind in kinds if hasattr(part, kind))) for part in path)


@suggests_names
def parameter_count(params: Params) -> int:
    """The number of scalars in a tree of arrays, an int.

    Example:
        >>> gg.parameter_count({"w": jnp.zeros((3, 4)), "b": jnp.zeros(4)})
        16
    """
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def parameter_summary(params: Params) -> str:
    """The total, and the share of each module: "1,200 parameters (embedding 800, decoder 400)"."""
    while len(params) == 1 and isinstance(next(iter(params.values())), dict):
        (params,) = params.values()
    parts = ", ".join(f"{name} {parameter_count(part):,}" for name, part in params.items())
    return f"{parameter_count(params):,} parameters ({parts})"
