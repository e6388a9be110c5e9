"""Several processes that train one run together, each with its own devices, usually one process a host.

JAX's distributed runtime connects them; every process then runs the same program on its share of each array.
"""

import os
import re
import sys
from typing import Any

import jax
import numpy as np

from gptgan_jax.errors import UserError

HEARTBEAT_SECONDS = 60
"""After so long without a sign of life of a process, the others stop."""
ADDRESS = re.compile(r"(.+:\d+),(\d+),(\d+)")


def connect(address: str | None = None) -> None:
    """Joins the other processes of the run; to be called before anything else of JAX.

    Args:
        address: HOST:PORT,COUNT,INDEX: where process 0 can be reached, how many processes there are, and which one this
            is; None where the surroundings tell: Cloud TPU, SLURM, Kubernetes, Open MPI.

    Raises:
        UserError: an address of another form, or processes that can't be found.
    """
    arguments: dict[str, Any] = {}
    if address is not None:
        form = ADDRESS.fullmatch(address)
        if form is None or int(form[3]) >= int(form[2]):
            raise UserError(
                f"--distributed {address!r} should be HOST:PORT,COUNT,INDEX with INDEX from 0 to COUNT - 1, such as "
                "10.0.0.1:8476,4,0; or nothing, where the cluster tells it"
            )
        arguments = {"coordinator_address": form[1], "num_processes": int(form[2]), "process_id": int(form[3])}
    try:
        jax.distributed.initialize(**arguments, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (ValueError, RuntimeError) as error:
        hint = "" if address else "; where no cluster tells it, give --distributed HOST:PORT,COUNT,INDEX"
        raise UserError(f"--distributed: {' '.join(str(error).split())[:200]}{hint}") from error


def is_main() -> bool:
    """Whether this is the process that writes records and speaks."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns when every process has come here.

    Args:
        name: of the place, the same in all.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def to_host(x: Any) -> np.ndarray:
    """A whole array as NumPy, on every process, however it is split over devices and processes."""
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def lost_contact(error: BaseException) -> str | None:
    """What to tell a user whose run ended with this error because another process ended; None where it did not."""
    text = " ".join(str(error).split())
    signs = (
        "Gloo",
        "Connection reset",
        "Connection closed",
        "unhealthy",
        "heartbeat",
        "coordination service",
        "Barrier",
    )
    if jax.process_count() == 1 or not any(sign in text for sign in signs):
        return None
    return (
        f"process {jax.process_index()} of {jax.process_count()} lost contact with another one ({text[:160]}); "
        "start all of them again with the same command to go on from the last checkpoint"
    )


def leave(status: int) -> None:
    """Ends this process at once, without the farewell to the others that would wait for those that are gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
