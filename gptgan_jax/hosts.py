"""Several processes that train one run together, each with its own devices, usually one process a host.

JAX's distributed runtime connects them; every process then runs the same program on its share of each array.
"""

import os
import re
import sys
from typing import Any, NoReturn

import jax
import numpy as np

from gptgan_jax.errors import UserError

ADDRESS = re.compile(r"(.+:\d+),(\d+),(\d+)")


def connect(address: str | None, heartbeat_seconds: int) -> None:
    """Joins the other processes of the run; to be called before anything else of JAX.

    Args:
        address: HOST:PORT,COUNT,INDEX: where process 0 can be reached, how many processes there are, and which one this
            is; None where the surroundings tell: Cloud TPU, SLURM, Kubernetes, Open MPI.
        heartbeat_seconds: after so long without a sign of life of a process, JAX ends the others.

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
        jax.distributed.initialize(**arguments, heartbeat_timeout_seconds=heartbeat_seconds)
    except (ValueError, RuntimeError) as error:
        hint = "" if address else "; where no cluster tells it, give --distributed HOST:PORT,COUNT,INDEX"
        raise UserError(f"--distributed: {' '.join(str(error).split())[:200]}{hint}") from error


def is_main() -> bool:
    """Whether this is the process that writes records and speaks."""
    return jax.process_index() == 0


def who_is_here() -> str:
    """This process and its devices, in words."""
    mine, everyones = jax.local_device_count(), jax.device_count()
    return f"process {jax.process_index()} of {jax.process_count()} with {mine} of {everyones} devices"


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


def failure_among_many(error: Exception) -> str | None:
    """What to tell of an error in one of several processes; None where this is the only one.

    The others can't go on without it, and notice that it has ended by what JAX tells them.
    """
    if jax.process_count() == 1:
        return None
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    where = f"process {jax.process_index()} of {jax.process_count()}"
    if isinstance(error, jax.errors.JaxRuntimeError):
        return (
            f"{where} lost contact with another one, or its devices failed ({text[:200]}); the same command in all "
            "processes goes on from the last checkpoint"
        )
    return f"{where} failed: {type(error).__name__}: {text[:400]}"


def leave(status: int) -> NoReturn:
    """Ends this process at once, without the farewell to the others that would wait for those that are gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
