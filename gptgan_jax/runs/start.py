"""The parameters that a run starts from, kept in its own folder, so that it does not need the other run any more."""

from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from gptgan_jax.errors import UserError
from gptgan_jax.runs.folder import START_FILE
from gptgan_jax.types import Params


def save_start(folder: Path, params: Params) -> None:
    """Writes start.npz into a run folder, which is made if there is none.

    Args:
        folder: of the run that starts from the parameters.
        params: nested dictionaries of arrays on the host.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / START_FILE, **flatten_dict(params, sep="/"))


def read_start(folder: Path) -> Params:
    """Reads what `save_start` wrote.

    Raises:
        UserError: where it is missing or damaged.
    """
    path = folder / START_FILE
    try:
        with np.load(path, allow_pickle=False) as file:
            return unflatten_dict(dict(file), sep="/")
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} can't be read ({reason}): what this run starts from; choose another --name") from error
