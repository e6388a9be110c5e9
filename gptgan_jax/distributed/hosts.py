"""Several processes that train one run together, each with its own devices; usually one process per host.

JAX's distributed runtime connects them; every process then runs the same program on its share of each array.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np

from gptgan_jax.errors import UserError

ADDRESS = re.compile(r"(.+:\d+),(\d+),(\d+)")
Result = TypeVar("Result")
# The number of differences that a message names; other text or code can cause many.
MOST_NAMED = 4


class RefusedByAll(UserError):
    """Bad input in one process that all processes know of: all end in the same way, and none waits for another."""


def connect(address: str | None, heartbeat_seconds: int) -> None:
    """Joins the other processes of the run; must be called before anything else in JAX.

    Args:
        address: HOST:PORT,COUNT,INDEX: the address of process 0, the number of processes, and the index of this one;
            None if the environment provides them: Cloud TPU, SLURM, Kubernetes, Open MPI.
        heartbeat_seconds: if a process is silent for this long, JAX ends the others.

    Raises:
        UserError: the address is invalid, or the processes can't connect.
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
    """Whether this is the process that writes records and prints."""
    return jax.process_index() == 0


def who_is_here() -> str:
    """This process and its devices, in words."""
    mine, everyones = jax.local_device_count(), jax.device_count()
    return f"process {jax.process_index()} of {jax.process_count()} with {mine} of {everyones} devices"


def wait_for_all(name: str) -> None:
    """Returns when every process has called it.

    Args:
        name: identifies the call; the same in all processes.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def found_by_first(find: Callable[[], str | None], alone: bool = False) -> str | None:
    """The problem that the first process finds; other processes only learn that there is one.

    Args:
        find: returns a problem with something that all processes see, or None.
        alone: whether only this process calls it.
    """
    if alone or jax.process_count() == 1:
        return find()
    from jax.experimental import multihost_utils

    problem = find() if is_main() else None
    if int(multihost_utils.broadcast_one_to_all(np.int32(problem is not None))):
        return problem or "it is damaged, as the first process found"
    return None


def to_host(x: Any) -> np.ndarray:
    """A whole array as NumPy, in every process, whatever its sharding."""
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def fetched(results: Iterable[Any]) -> Iterator[Any]:
    """Trees of arrays as NumPy, in their order; only one is computed while the one before it is fetched.

    If all were queued on the device at once, a request to stop would have to wait for all of them.
    """
    waiting: Any = None
    for result in results:
        if waiting is not None:
            yield jax.tree.map(to_host, waiting)
        waiting = result
    if waiting is not None:
        yield jax.tree.map(to_host, waiting)


def from_all(text: str) -> list[str]:
    """The texts of all processes by index, the same in each; must be called in every process."""
    if jax.process_count() == 1:
        return [text]
    from jax.experimental import multihost_utils

    own = np.frombuffer(text.encode(), np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.int32(len(own)))).ravel()
    padded = np.zeros(max(int(sizes.max()), 1), np.uint8)
    padded[: len(own)] = own
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(sizes), -1)
    return [row[:size].astype(np.uint8).tobytes().decode() for row, size in zip(rows, sizes, strict=True)]


def told_by_first(find: Callable[[], str]) -> str:
    """The result of the first process, in all of them; must be called in every process.

    Raises:
        RefusedByAll: in every process, if it raises UserError in the first of several.
    """
    content = in_all(lambda: find() if is_main() else "").encode()
    if jax.process_count() == 1:
        return content.decode()
    from jax.experimental import multihost_utils

    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    own = np.frombuffer(content.ljust(max(size, 1)), np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(own))[:size].astype(np.uint8).tobytes().decode()


def in_all(work: Callable[[], Result]) -> Result:
    """The result of `work`, once every process has finished it.

    Raises:
        RefusedByAll: in every process, if it raises UserError in one of several.
    """
    problem, result = "", None
    try:
        result = work()
    except UserError as error:
        if jax.process_count() == 1:
            raise
        problem = str(error)
    problems = from_all(problem)
    if any(problems):
        index = next(index for index, text in enumerate(problems) if text)
        who = "" if len(set(problems)) == 1 else f"process {index}: "
        raise RefusedByAll(f"{who}{problems[index]}")
    return result  # type: ignore[return-value]


def check_alike(facts: Mapping[str, str]) -> None:
    """Compares facts by name with those of process 0.

    Args:
        facts: of this process, from `runs.fingerprint`; values that begin with "#" are digests, which are not shown.

    Raises:
        RefusedByAll: in every process; names the first process that differs, and its differences.
    """
    everyones = [json.loads(text) for text in from_all(json.dumps(facts))]
    for index, theirs in enumerate(everyones):
        if differences := _differences(theirs, everyones[0]):
            more = f" and {len(differences) - MOST_NAMED} more" if len(differences) > MOST_NAMED else ""
            raise RefusedByAll(
                f"process {index} has another {', another '.join(differences[:MOST_NAMED])}{more} than process 0; all "
                "must have the same text, config, code and packages"
            )


def _differences(facts: Mapping[str, str], first: Mapping[str, str]) -> list[str]:
    """The differences from process 0, in its order: each name, with both values unless they are digests."""
    found = []
    for name in dict.fromkeys([*first, *facts]):
        mine, theirs = facts.get(name, "none"), first.get(name, "none")
        if mine != theirs:
            digests = mine.startswith("#") or theirs.startswith("#")
            found.append(name if digests else f"{name} ({mine[:40]}, not {theirs[:40]})")
    return found


def failure_among_many(error: Exception) -> str | None:
    """The message for an error in one of several processes; None if there is one process, or if all know of it.

    The others can't continue without it; JAX tells them that it has ended.
    """
    if jax.process_count() == 1 or isinstance(error, RefusedByAll):
        return None
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    where = f"process {jax.process_index()} of {jax.process_count()}"
    if isinstance(error, jax.errors.JaxRuntimeError):
        return (
            f"{where} lost contact with another one, or its devices failed ({text[:200]}); repeat the command in all "
            "processes to resume from the last checkpoint"
        )
    return f"{where} failed: {type(error).__name__}: {text[:400]}"


def leave(status: int) -> NoReturn:
    """Ends this process at once, without JAX's shutdown, which would wait for processes that are gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
