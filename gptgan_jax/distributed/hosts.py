"""Several processes that train one run together, each with its own devices, usually one process a host.

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
# Differences that a message names; of another text or code there are many.
MOST_NAMED = 4


class RefusedByAll(UserError):
    """Bad input of one process that every process knows of: all end alike, and none waits for another."""


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


def found_by_first(find: Callable[[], str | None], alone: bool = False) -> str | None:
    """What is wrong by the first process, where several come here; the others say that it found something.

    Args:
        find: what is wrong with something that all of them see, or None.
        alone: whether this process is here without the others.
    """
    if alone or jax.process_count() == 1:
        return find()
    from jax.experimental import multihost_utils

    problem = find() if is_main() else None
    if int(multihost_utils.broadcast_one_to_all(np.int32(problem is not None))):
        return problem or "it is damaged, as the first process found"
    return None


def to_host(x: Any) -> np.ndarray:
    """A whole array as NumPy, on every process, however it is split over devices and processes."""
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def fetched(results: Iterable[Any]) -> Iterator[Any]:
    """Trees of arrays as NumPy, in their order; one is computed while the one before it is fetched, and no more.

    All at once would wait in the device's queue, and whoever wants to stop would wait for all of them.
    """
    waiting: Any = None
    for result in results:
        if waiting is not None:
            yield jax.tree.map(to_host, waiting)
        waiting = result
    if waiting is not None:
        yield jax.tree.map(to_host, waiting)


def from_all(text: str) -> list[str]:
    """What each process gives here, by their numbers; every process must come here, and all get the same."""
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
    """What the first process finds; every process must come here, and all get it.

    Raises:
        RefusedByAll: in every process, where it raised UserError in the first of several.
    """
    content = in_all(lambda: find() if is_main() else "").encode()
    if jax.process_count() == 1:
        return content.decode()
    from jax.experimental import multihost_utils

    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    own = np.frombuffer(content.ljust(max(size, 1)), np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(own))[:size].astype(np.uint8).tobytes().decode()


def in_all(work: Callable[[], Result]) -> Result:
    """What `work` gives, when it has been done in every process.

    Raises:
        RefusedByAll: in every process, where it raised UserError in one of several.
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
        facts: of this process, as `runs.fingerprint` gives them; "#" begins a digest, which a message doesn't show.

    Raises:
        RefusedByAll: in every process, naming the first process that differs and what it differs in.
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
    """What differs from process 0's, in the order of these: its name, and both values where they can be read."""
    found = []
    for name in dict.fromkeys([*first, *facts]):
        mine, theirs = facts.get(name, "none"), first.get(name, "none")
        if mine != theirs:
            digests = mine.startswith("#") or theirs.startswith("#")
            found.append(name if digests else f"{name} ({mine[:40]}, not {theirs[:40]})")
    return found


def failure_among_many(error: Exception) -> str | None:
    """What to tell of an error in one of several processes; None where this is the only one, or all know of it.

    The others can't go on without it, and notice that it has ended by what JAX tells them.
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
    """Ends this process at once, without the farewell to the others that would wait for those that are gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
