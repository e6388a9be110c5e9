"""The parameters that a run starts from, saved next to its checkpoints, so that the other run or model can go.

Each process writes and reads only what its own devices hold, so no host ever has all of a large model.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from gptgan_jax.checkpoints.atomic_save import START, sealed_path_class
from gptgan_jax.checkpoints.bases import Base
from gptgan_jax.checkpoints.steps import absolute
from gptgan_jax.config import Config
from gptgan_jax.data.tokenizers import SPECIAL_TOKENS, AnyTokenizer, Tokenizer
from gptgan_jax.distributed.partitioning import state_shardings
from gptgan_jax.errors import UserError
from gptgan_jax.layers.lora import learns
from gptgan_jax.objectives.optimizers import parameter_paths
from gptgan_jax.pretrained.vocabulary import rows_by_token, token_axis, with_rows
from gptgan_jax.types import Params, path_name


@dataclass(frozen=True, eq=False)
class Start:
    """What a run starts from: the generator of another run, or a model.

    Attributes:
        tokenizer: its tokenizer.
        source: where its parameters come from, in words.
        shapes: of its parameters, without adapters: those that it was trained with are merged into its weights.
        read: (shape structs with shardings) -> its parameters.
    """

    tokenizer: AnyTokenizer
    source: str
    shapes: Params
    read: Callable[[Params], Params]

    def params(self, target: Params | None = None) -> Params:
        """Its parameters.

        Args:
            target: shape structs with shardings; by default on the first device.

        Raises:
            UserError: they can't be read.
        """
        try:
            return self.read(on_first_device(self.shapes) if target is None else target)
        except UserError as error:
            raise UserError(f"init_from {self.source}: {error}") from None


def by_token(config: Config, start: Start, tokenizer: AnyTokenizer) -> tuple[Start, str]:
    """The start with the run's own vocabulary (`pretrained.vocabulary`), and a note on how many tokens are new.

    Raises:
        UserError: the vocabularies share no token, or only adapters are trained, which would leave new tokens equal.
    """
    if not isinstance(tokenizer, Tokenizer) or not isinstance(start.tokenizer, Tokenizer):
        raise UserError("init_vocabulary by_token: token ids are no tokens of a text; set it to same")
    rows = rows_by_token(start.tokenizer, tokenizer)
    known = tokenizer.vocabulary.size - rows.new
    if known <= len(SPECIAL_TOKENS):
        raise UserError(
            f"init_vocabulary by_token: {config.init_from} has none of this run's tokens; set tokenizer as it has it"
        )
    chosen = learns(config.generator.lora)
    still = [path for path in parameter_paths(start.shapes) if token_axis(path) is not None and not chosen(path)]
    if rows.new and still:
        raise UserError(
            f"init_vocabulary by_token: {rows.new} tokens are new, and generator.lora would leave them alike; set "
            f"generator.lora.trained to {still}"
        )

    size = tokenizer.vocabulary.size
    note = f"of this run's {size:,} tokens {known:,} it knows; the others begin as the mean of its rows"
    return _with_tokens(start, tokenizer, size, functools.partial(with_rows, rows=rows)), note


def without_padding(start: Start, size: int) -> Start:
    """The start with only the first `size` rows of its vocabulary; the others are not tokens of its tokenizer."""

    def cut(params: Params) -> Params:
        def first(path: tuple[Any, ...], x: jax.Array) -> jax.Array:
            axis = token_axis(path_name(path))
            return x if axis is None else jax.lax.slice_in_dim(x, 0, size, axis=axis)

        return jax.tree.map_with_path(first, params)

    return _with_tokens(start, start.tokenizer, size, cut)


def _with_tokens(start: Start, tokenizer: AnyTokenizer, size: int, change: Callable[[Params], Params]) -> Start:
    """The start whose parameters are changed as they are read, into ones for `size` tokens."""

    def resized(path: tuple[Any, ...], x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        axis, sizes = token_axis(path_name(path)), list(x.shape)
        if axis is not None:
            sizes[axis] = size
        return jax.ShapeDtypeStruct(sizes, x.dtype)

    def read(target: Params) -> Params:
        places = jax.tree.map(lambda x: x.sharding, target)
        return jax.jit(change, out_shardings=places)(start.read(placed_like(target, start.shapes)))

    return Start(tokenizer, start.source, jax.tree.map_with_path(resized, start.shapes), read)


# ---- in the run folder


def save_start(checkpoints: epath.PathLike, params: Params) -> None:
    """Writes the folder `start` with its checksums, all or nothing; must be called by every process of the run.

    Args:
        checkpoints: the folder of the run's checkpoints; created if it does not exist.
        params: arrays, with any sharding.
    """
    with ocp.StandardCheckpointer(temporary_path_class=sealed_path_class(absolute(checkpoints))) as checkpointer:
        checkpointer.save(_folder(checkpoints), params, force=True)


def read_start(checkpoints: epath.PathLike, target: Params) -> Params:
    """Reads what `save_start` wrote.

    Args:
        checkpoints: the folder of the run's checkpoints.
        target: arrays or shape structs that give the structure and shardings.

    Raises:
        UserError: it is missing or damaged.
    """
    return Base(_folder(checkpoints), alone=False).params(target)


def has_start(checkpoints: epath.PathLike) -> bool:
    """Whether `save_start` wrote something next to these checkpoints."""
    return _folder(checkpoints).is_dir()


def _folder(checkpoints: epath.PathLike) -> epath.Path:
    return absolute(checkpoints) / START


# ---- placement


def placed_like(target: Params, shapes: Params) -> Params:
    """The shapes of another tree with shardings, on the devices of `target`."""
    place = jax.tree.leaves(target)[0].sharding
    if not isinstance(place, jax.sharding.NamedSharding):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)
    places = state_shardings(shapes, place.mesh)  # type: ignore[arg-type]
    return jax.tree.map(lambda x, one: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), shapes, places)


def on_first_device(shapes: Params) -> Params:
    """The shapes with shardings, on this process's first device."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
