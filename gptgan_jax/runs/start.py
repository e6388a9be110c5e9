"""The parameters that a run starts from, kept beside its checkpoints, so that it needs the other run or model no more.

Each process writes and reads what its own devices hold: no host ever has the whole of a large model.
"""

import jax
import orbax.checkpoint as ocp
from etils import epath

from gptgan_jax.errors import UserError
from gptgan_jax.runs.checkpoints import absolute
from gptgan_jax.runs.folder import START
from gptgan_jax.types import Params


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
