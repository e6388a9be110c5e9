"""The parameters that a run starts from, kept beside its checkpoints, so that it needs the other run or model no more.

Each process writes and reads what its own devices hold: no host ever has the whole of a large model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import orbax.checkpoint as ocp
from etils import epath

from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.partitioning import state_shardings
from gptgan_jax.runs.checkpoints import absolute
from gptgan_jax.runs.folder import START
from gptgan_jax.types import Params


@dataclass(frozen=True, eq=False)
class Start:
    """What a run starts from: the generator of another run, or a model.

    Attributes:
        tokenizer: its tokenizer.
        source: where its parameters lie, in words.
        shapes: of its parameters. It has no adapters: those that it learned with are merged into its weights.
        read: (shape structs that say where each shall live) -> its parameters.
    """

    tokenizer: AnyTokenizer
    source: str
    shapes: Params
    read: Callable[[Params], Params]

    def params(self, target: Params | None = None) -> Params:
        """Its parameters.

        Args:
            target: shape structs that say where each shall live; by default the first device.

        Raises:
            UserError: where they can't be read.
        """
        try:
            return self.read(on_first_device(self.shapes) if target is None else target)
        except UserError as error:
            raise UserError(f"init_from {self.source}: {error}") from None


# ---- in the run's folder


def save_start(checkpoints: epath.PathLike, params: Params) -> None:
    """Writes the folder `start`, all or nothing; to be called by every process of the run.

    Args:
        checkpoints: the folder of the run's checkpoints; made if there is none.
        params: arrays, however they are split over devices.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(_folder(checkpoints), params, force=True)


def read_start(checkpoints: epath.PathLike, target: Params) -> Params:
    """Reads what `save_start` wrote.

    Args:
        checkpoints: the folder of the run's checkpoints.
        target: arrays or shape structs, in whose structure and shardings it comes.

    Raises:
        UserError: where it is missing or damaged.
    """
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), target)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(_folder(checkpoints), target)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{_folder(checkpoints)} can't be read ({reason}): what this run starts from; choose another --name"
        ) from error


def _folder(checkpoints: epath.PathLike) -> epath.Path:
    return absolute(checkpoints) / START


# ---- where it lies


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
