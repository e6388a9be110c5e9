"""Low-rank adaptation (LoRA, Hu et al. 2021): each weight matrix W is frozen, and a low-rank product beside it learns.

    x @ W + (alpha / rank) (x @ A) @ B          A [D, rank] random, B [rank, F] zero at first

An adapted network therefore starts out equal to the original. A and B are parameters of their own, `lora_a` and
`lora_b` beside `kernel`; a network's configuration says where they are, and sampler, averages, references and
checkpoints just see a tree of parameters. Frozen parameters get no gradient and no optimiser state.
"""

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from pydantic import model_validator

from gptgan_jax.errors import suggests_names
from gptgan_jax.layers.initializers import normal
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.types import Array, Params, path_name

A, B = "lora_a", "lora_b"
GIVEN_A, GIVEN_B = "given_a", "given_b"
"""Frozen adapters that another network learned: x @ given_a @ given_b, beside the trained ones."""


@config_dataclass
class LoraConfig:
    """Low-rank adapters (LoRA, Hu et al. 2021): the network's weights are frozen, and only the adapters learn.

    Example:
        >>> config = gg.TransformerConfig(layers=1, width=8, heads=2, lora=gg.LoraConfig(rank=2, alpha=16))
        >>> config.lora.scale
        8.0
    """

    rank: int = key(0, "rank of the adapters (columns of A, rows of B); 0: no adapters, the whole network learns", ge=0)
    alpha: float = key(16.0, "x @ A @ B is scaled by alpha / rank", gt=0)
    targets: tuple[str, ...] = key((), "weight matrices to adapt, such as qkv; []: all of them in every layer")
    trained: tuple[str, ...] = key(
        (), "parameters trained besides the adapters: path patterns, such as trunk/embedding/*"
    )

    @property
    def scale(self) -> float:
        """The factor of the product of the two."""
        return self.alpha / self.rank

    def rank_of(self, name: str | None) -> int:
        """The rank of the adapter of a named matrix; 0 if it has none."""
        return self.rank if not self.targets or name in self.targets else 0

    def check_targets(self, names: Sequence[str]) -> None:
        """Raises ValueError if a target is not the name of one of a network's matrices."""
        for target in self.targets:
            if target not in names:
                raise ValueError(f"lora.targets: {target!r} is no matrix of this network; it has {', '.join(names)}")

    @model_validator(mode="after")
    def _check(self) -> "LoraConfig":
        if not self.rank:
            default: dict[str, Any] = {"alpha": 16.0, "targets": (), "trained": ()}
            for name, value in default.items():
                if getattr(self, name) != value:
                    raise ValueError(f"{name} has no effect without adapters: set rank above 0, or drop {name}")
        return self


NO_ADAPTERS = LoraConfig()


@config_dataclass
class LoraBeside(LoraConfig):
    """Adapters of a network that starts from another adapted network and keeps its adapters apart from the weights.

    Both networks then share one set of weights in memory and one copy on disk.
    """

    given: LoraConfig = key(LoraConfig, "rank and targets of the other network's adapters")


def given_of(lora: LoraConfig) -> LoraConfig:
    """The configuration of the frozen adapters; of rank 0 if there are none."""
    return lora.given if isinstance(lora, LoraBeside) else NO_ADAPTERS


# ---- in a layer


def adapter(module: nn.Module, beside: str, rank: int, shape: tuple[int, int]) -> tuple[Array, Array]:
    """The parameters A [D, rank] and B [rank, F] of a module, for its matrix `beside` of shape [D, F]."""
    prefix = _prefix(beside)
    a = module.param(prefix + A, normal(shape[0] ** -0.5), (shape[0], rank), jnp.float32)
    return a, module.param(prefix + B, nn.initializers.zeros_init(), (rank, shape[1]), jnp.float32)


def adapters(
    module: nn.Module, lora: LoraConfig, name: str | None, shape: tuple[int, int]
) -> tuple[Array, Array, float] | None:
    """The adapter of a matrix `name` of shape [D, F]: A [D, R], B [R, F] and the factor of A @ B; None without one.

    Frozen and trained adapters of the same matrix are concatenated into one product.
    """
    own, given = lora.rank_of(name), given_of(lora).rank_of(name)
    pairs = []
    if own:
        a, b = adapter(module, "kernel", own, shape)
        if not given:
            return a, b, lora.scale
        pairs.append((a, lora.scale * b))
    if given:
        zeros = nn.initializers.zeros_init()
        a = module.param(GIVEN_A, zeros, (shape[0], given), jnp.float32)
        pairs.append((a, module.param(GIVEN_B, zeros, (given, shape[1]), jnp.float32)))
    if not pairs:
        return None
    return jnp.concatenate([a for a, _ in pairs], axis=1), jnp.concatenate([b for _, b in pairs]), 1.0


def low_rank(a: Array, b: Array, scale: float) -> Array:
    """scale * A @ B in float32: [..., D, rank], [..., rank, F] -> [..., D, F]."""
    return scale * jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


# ---- what learns


def learns(lora: LoraConfig, new: Sequence[str] = ()) -> Callable[[str], bool]:
    """Whether the parameter at a path is trained: all without adapters, else adapters, `lora.trained` and new ones.

    Args:
        lora: of the network.
        new: path patterns of parameters that the network did not start with, such as a discriminator's head.
    """
    patterns = (A, B, f"*/{A}", f"*/{B}", f"*_{A}", f"*_{B}", *lora.trained, *new)
    return lambda path: not lora.rank or any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def only_learning(params: Params, lora: LoraConfig, new: Sequence[str] = ()) -> Params:
    """The same parameters, with the frozen ones as constants for the gradient; see `learns`."""
    if not lora.rank:
        return params
    chosen = learns(lora, new)
    return jax.tree.map_with_path(lambda path, x: x if chosen(path_name(path)) else jax.lax.stop_gradient(x), params)


# ---- trees of parameters, with adapters and without


@suggests_names
def merged(params: Params, lora: LoraConfig) -> Params:
    """The parameters of the equivalent network without adapters: W + (alpha / rank) A @ B in place of each W.

    Args:
        params: of a network with this configuration; layers may be stacked, as in scanned networks.
        lora: gives alpha; if it has no adapters, the parameters are returned unchanged.

    Returns:
        the tree without `lora_a` and `lora_b`; parameters without an adapter are not copied.

    Example:
        >>> lora = gg.LoraConfig(rank=2)
        >>> adapted = gg.build_generator(gg.LstmConfig(embedding=4, hidden=4, lora=lora), vocabulary).init(key, batch)
        >>> gg.parameter_count(adapted) - gg.parameter_count(gg.merged(adapted, lora))
        80
    """
    if not lora.rank:
        return params

    def inside(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        kept = {name: inside(value) for name, value in node.items() if not _is_adapter(name)}
        for name in kept:
            prefix = _prefix(name)
            if prefix + A in node:
                kept[name] = kept[name] + low_rank(node[prefix + A], node[prefix + B], lora.scale)
            if name == "kernel" and GIVEN_A in node:
                kept[name] = kept[name] + low_rank(node[GIVEN_A], node[GIVEN_B], 1.0)
        return kept

    return inside(params)


def without_adapters(params: Params) -> Params:
    """The tree without its adapters, of arrays or shape structs: the original network."""
    if not isinstance(params, dict):
        return params
    return {name: without_adapters(value) for name, value in params.items() if not _is_adapter(name)}


def given(params: Params, lora: LoraConfig) -> Params:
    """Only copies of a network's adapters, under the names of frozen adapters in another network."""
    found: Params = {}
    for name, value in params.items():
        if isinstance(value, dict):
            if inside := given(value, lora):
                found[name] = inside
        elif name == A:
            found[GIVEN_A] = jnp.copy(value)
        elif name == B:
            found[GIVEN_B] = lora.scale * value
    return found


def with_adapters(base: Params, params: Params) -> Params:
    """The base, a tree without adapters, with the adapters of `params`, a tree of the same network."""
    if not isinstance(params, dict):
        return base
    return {name: value if _is_adapter(name) else with_adapters(base[name], value) for name, value in params.items()}


def _prefix(matrix: str) -> str:
    """The prefix of the names of a matrix's adapter."""
    return "" if matrix == "kernel" else f"{matrix}_"


def is_given(path: str) -> bool:
    """Whether a parameter, by its path, is of an adapter that another network learned."""
    return path.endswith((GIVEN_A, GIVEN_B))


def _is_adapter(name: str) -> bool:
    return name.endswith((A, B, GIVEN_A, GIVEN_B))
