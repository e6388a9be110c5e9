"""The runs of a study on their slots: in order of what they need, apart from each other, stopped in time."""

import itertools
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studies.grids import Fake

from gptgan_jax.config import Config
from gptgan_jax.studies import pool as pools
from gptgan_jax.studies.devices import Slot
from gptgan_jax.studies.jobs import Job
from gptgan_jax.studies.pool import Child, Pool, State
from gptgan_jax.training.signals import Interrupted

BASE = Job(Path("a/likelihood"), "a", "likelihood", 0, Config())
ARMS = [Job(Path(f"a/{name}"), "a", name, 0, Config(), BASE.folder) for name in ("x", "y")]
ALONE = Job(Path("a/longer"), "a", "longer", 0, Config())
OTHER = Job(Path("b/likelihood"), "b", "likelihood", 0, Config())
JOBS = [BASE, *ARMS, ALONE, OTHER]
CLOCK = itertools.count


class Machine:
    """Runs that take a few looks each; what is begun when, and how many at once."""

    def __init__(self, fails: dict[Path, int] | None = None, looks: int = 2) -> None:
        self.begun: list[Job] = []
        self.slots: list[Slot] = []
        self.most = 0
        self._fails, self._looks, self._running = fails or {}, looks, 0

    def start(self, job: Job, slot: Slot) -> "Machine._Run":
        self.begun.append(job)
        self.slots.append(slot)
        self._running += 1
        self.most = max(self.most, self._running)
        return self._Run(self, self._looks, self._fails.get(job.folder, 0))

    class _Run(Fake):
        def __init__(self, machine: "Machine", looks: int, status: int) -> None:
            super().__init__(status, "loss not finite")
            self._machine, self._left = machine, looks

        def status(self) -> int | None:
            if self._left:
                self._left -= 1
                self._machine._running -= not self._left
                return None
            return self._status


def pool_of(machine: Any, done: Any = (), slots: int = 2, **keys: Any) -> Pool:
    return Pool(JOBS, done, [Slot({"n": str(i)}) for i in range(slots)], machine.start, pause=lambda _: None, **keys)


def states(pool: Pool) -> dict[str, State]:
    return {str(folder): one.state for folder, one in pool.progress.items()}


def test_all_runs_are_made_as_many_at_a_time_as_there_are_slots_and_arms_after_their_likelihood() -> None:
    machine = Machine()
    pool = pool_of(machine)
    pool.run()
    assert set(states(pool).values()) == {State.DONE}
    assert sorted(map(str, (job.folder for job in machine.begun))) == sorted(str(job.folder) for job in JOBS)
    assert machine.most == 2
    order = [job.folder for job in machine.begun]
    assert all(order.index(BASE.folder) < order.index(arm.folder) for arm in ARMS)
    assert order[:2] == [BASE.folder, ALONE.folder], "what needs nothing does not wait"
    assert {slot.environment["n"] for slot in machine.slots} == {"0", "1"}


def test_what_is_done_is_not_run_again() -> None:
    machine = Machine()
    pool_of(machine, done={BASE.folder, ARMS[0].folder, OTHER.folder}).run()
    assert [job.arm for job in machine.begun] == ["y", "longer"]


def test_a_run_that_fails_stops_only_those_that_start_from_it() -> None:
    pool = pool_of(Machine({BASE.folder: 1}))
    pool.run()
    assert states(pool) == {
        "a/likelihood": State.FAILED,
        "a/x": State.FAILED,
        "a/y": State.FAILED,
        "a/longer": State.DONE,
        "b/likelihood": State.DONE,
    }
    assert pool.progress[BASE.folder].reason == "loss not finite"
    assert pool.progress[ARMS[0].folder].reason == "the likelihood run that it starts from failed"


@pytest.mark.parametrize(
    ("status", "says"), [(-9, "ended by SIGKILL, perhaps for lack of memory"), (143, "ended by SIGTERM")]
)
def test_a_run_that_something_else_ended_has_failed(status: int, says: str) -> None:
    pool = pool_of(Machine({OTHER.folder: status}))
    pool.run()
    assert pool.progress[OTHER.folder].reason == says


class Stubborn:
    """Runs that never end by themselves; a signal comes at the second look."""

    def __init__(self, number: int, obeys: bool) -> None:
        self.runs: list[Fake] = []
        self._number, self._obeys = number, obeys
        self._looks = 0

    def start(self, job: Job, slot: Slot) -> Fake:
        self.runs.append(self._Run(None, self._obeys))
        return self.runs[-1]

    def look(self, seconds: float) -> None:
        self._looks += 1
        if self._looks == 2:
            os.kill(os.getpid(), self._number)

    class _Run(Fake):
        def __init__(self, status: int | None, obeys: bool) -> None:
            super().__init__(status)
            self._obeys = obeys

        def stop(self) -> None:
            super().stop()
            if self._obeys:
                self._status = 143


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("obeys", [True, False])
def test_a_signal_ends_all_runs_in_time_and_they_wait_for_the_next_time(number: int, obeys: bool) -> None:
    machine = Stubborn(number, obeys)
    seconds = CLOCK()
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    pool = Pool(JOBS, (), [Slot(), Slot()], machine.start, pause=machine.look, clock=lambda: next(seconds))
    with pytest.raises(Interrupted) as raised:
        pool.run()
    assert raised.value.signal == number
    assert all(run.stopped for run in machine.runs)
    assert [run.killed for run in machine.runs] == [not obeys] * 2
    assert set(states(pool).values()) == {State.WAITING}
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert next(seconds) < 2 * pools.STOP_SECONDS + 4, "on a clock that ticks where it is looked at"


def test_nothing_is_left_running_where_a_run_can_not_be_started() -> None:
    machine = Stubborn(signal.SIGINT, obeys=True)
    first = machine.start

    def second(job: Job, slot: Slot) -> Fake:
        if machine.runs:
            raise OSError("no more processes")
        return first(job, slot)

    with pytest.raises(OSError, match="no more processes"):
        Pool(JOBS, (), [Slot(), Slot()], second, pause=lambda _: None).run()
    assert [run.stopped for run in machine.runs] == [True]


# ---- real processes


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts a program in place of a run."""
    started: list[Child] = []

    def start(program: str, slot: Slot | None = None) -> Child:
        real = pools.subprocess.Popen
        monkeypatch.setattr(
            pools.subprocess, "Popen", lambda command, **keys: real([command[0], "-S", "-c", program], **keys)
        )
        started.append(Child(replace(BASE, config=Config(name="me")), slot or Slot(), tmp_path / "logs" / "a.log"))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def ended(child: Child) -> int:
    return child._process.wait(30)


def test_a_run_has_its_config_on_its_input_and_what_its_slot_gives(child: Any) -> None:
    program = "import os, sys\nfor line in sys.stdin:\n  if line == '...\\n': break\n  if line.startswith('name:'): print(line, os.environ['WHERE'])\nsys.exit(3)"  # noqa: E501
    run = child(program, Slot({"WHERE": "here"}))
    assert ended(run) == 3
    assert run.reason() == "here"
    assert "name: me" in run._log.read_text()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_run_keeps_to_its_cores(child: Any) -> None:
    core = min(os.sched_getaffinity(0))
    run = child("import os, sys; sys.stdin.readline(); print(os.sched_getaffinity(0))", Slot(cores=frozenset([core])))
    assert ended(run) == 0
    assert run.reason() == str({core})


def test_a_run_sees_that_its_study_is_gone(child: Any) -> None:
    run = child("import sys; sys.stdin.read(); sys.exit(5)")
    assert run.status() is None
    run._input.close()  # as the kernel does, however the study ended
    assert ended(run) == 5


def test_a_stopped_run_gets_sigterm_and_a_killed_one_is_gone(child: Any) -> None:
    wait = "import signal, sys; sys.stdin.readline(); signal.pause()"
    run = child(wait)
    run.stop()
    assert ended(run) == -signal.SIGTERM
    run = child(wait)
    run.kill()
    assert run.status() == -signal.SIGKILL
    assert run.reason() == ""
