"""A run that is killed again and again, and one that is not: both trained by children of one process.

Starting Python with JAX takes seconds, so this process imports everything and forks a child for each attempt, before
JAX has opened a device. SIGKILL falls at random instants: after a random number of lines of metrics.jsonl, while a
checkpoint is being written, or anywhere while the child still starts. Use `tortured`, from any process; the file is its
own script.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tiny import write_config

PHASES = ("likelihood", "continued", "warmup", "adversarial")
# Steps are saved two by two; all that a step may carry to the next is in use.
KEYS: dict[str, Any] = {
    "likelihood.steps": 12,
    "likelihood.optimizer.accumulate": 2,
    "likelihood.optimizer.schedule": "cosine",
    "continued.steps": 8,
    "continued.learning_rate": 3.0,  # too high, so that its best is not its latest
    "warmup.steps": 10,
    "adversarial.steps": 12,
    "adversarial.ema_decay": 0.9,
    "adversarial.generator_optimizer.learning_rate": 0.1,
    "generator.dropout": 0.1,
    "objective.replay_size": 12,
    "objective.kl_weight": 0.1,
    "evaluation.every": 2,
    "checkpoints.keep": 1,
}
POLL_SECONDS = 0.0005


@dataclass(frozen=True)
class Kill:
    """One SIGKILL.

    Attributes:
        phase: of the last record; "" before the first.
        step: of the last record.
        how: what it waited for: lines, saving or starting.
        cut: whether it left a checkpoint half written.
    """

    phase: str
    step: int
    how: str
    cut: bool


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        whole: the run folder that nothing happened to.
        killed: the run folders that were killed and went on; one, unless it came to its end before all kills were used.
        kills: all of them.
        seconds: how long it took.
    """

    whole: Path
    killed: tuple[Path, ...]
    kills: tuple[Kill, ...]
    seconds: float


def tortured(folder: Path, kills: int, seed: int, keys: dict[str, Any] | None = None) -> Outcome:
    """Trains both in a process of their own.

    Args:
        folder: empty.
        kills: how many SIGKILLs.
        seed: of their instants, as far as a clock allows.
        keys: dotted keys of the configuration, over `KEYS`.

    Raises:
        RuntimeError: a run failed by itself.
    """
    arguments = {"folder": str(folder), "kills": kills, "seed": seed, "keys": KEYS | (keys or {})}
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{done.stdout}\n{done.stderr}")
    raw = json.loads(done.stdout.splitlines()[-1])
    made = tuple(Kill(**kill) for kill in raw["kills"])
    return Outcome(Path(raw["whole"]), tuple(map(Path, raw["killed"])), made, raw["seconds"])


# ---- in the process of its own


def main(folder: Path, kills: int, seed: int, keys: dict[str, Any]) -> dict[str, Any]:
    began, instants = time.monotonic(), random.Random(seed)
    whole = write_config(folder / "whole", keys)
    child = _start(whole)
    _check_end(child, os.waitpid(child, 0)[1], whole)
    data = {"data.train": str(folder / "whole" / "corpus.txt")}
    made: list[Kill] = []
    configs: list[Path] = []
    while len(made) < kills:
        place = folder / f"killed{len(configs)}"
        place.mkdir()
        configs.append(write_config(place, keys | data))
        while True:
            quota = -(-kills // len(PHASES))
            kill = _kill_once(configs[-1], instants, made, quota) if len(made) < kills else None
            if kill is None:
                child = _start(configs[-1])
                _check_end(child, os.waitpid(child, 0)[1], configs[-1])
                break
            made.append(kill)
    return {
        "whole": str(_run_of(whole)),
        "killed": [str(_run_of(config)) for config in configs],
        "kills": [asdict(kill) for kill in made],
        "seconds": time.monotonic() - began,
    }


def _run_of(config: Path) -> Path:
    return config.parent / "runs" / config.stem


def _log_of(config: Path) -> Path:
    return config.parent / "log.txt"


def _start(config: Path) -> int:
    """A child that trains the configuration's run, or goes on with it; its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        log = os.open(_log_of(config), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        train_run(load_config(config), print)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _check_end(child: int, status: int, config: Path) -> None:
    if status:
        raise SystemExit(f"{config} ended with {status}:\n{_log_of(config).read_text()[-3000:]}")


def _kill_once(config: Path, instants: random.Random, made: list[Kill], quota: int) -> Kill | None:
    """Starts the run and kills it; None where it came to its end before."""
    run = _run_of(config)
    how = instants.choices(("lines", "saving", "starting"), (5, 5, 1))[0]
    lines, saves = instants.randint(1, 4), instants.randint(1, 2)
    delay = instants.uniform(0, {"lines": 0.03, "saving": 0.02, "starting": 1.0}[how])
    enough = {phase for phase, count in Counter(kill.phase for kill in made).items() if count >= quota}
    child = _start(config)
    began, size, seen = time.monotonic(), None, set[str]()
    while True:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            _check_end(child, os.waitpid(child, 0)[1], config)
            return None
        # A phase that has had its share is let pass, so that all have theirs.
        if how == "starting" and time.monotonic() - began >= delay:
            break
        if how == "lines" and _last_record(run)[0] not in enough:
            grown = _lines(run)
            size = grown if size is None or grown < size else size  # a resume drops some
            if grown - size >= lines:
                time.sleep(delay)
                break
        if how == "saving" and _last_record(run)[0] not in enough:
            seen |= _half_written(run)
            if len(seen) >= saves:
                time.sleep(delay)
                break
        time.sleep(POLL_SECONDS)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        _check_end(child, status, config)
        return None
    return Kill(*_last_record(run), how, bool(_half_written(run)))


def _lines(run: Path) -> int:
    try:
        return (run / "metrics.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _last_record(run: Path) -> tuple[str, int]:
    records = read_metrics(run)
    return (records[-1]["phase"], records[-1]["step"]) if records else ("", 0)


def _half_written(run: Path) -> set[str]:
    return {str(path) for path in (run / "checkpoints").glob("*/*.orbax-checkpoint-tmp*")}


if __name__ == "__main__":
    import traceback

    from gptgan_jax.config.files import load_config
    from gptgan_jax.runs.records import read_metrics
    from gptgan_jax.workflows.run import train_run

    given = json.loads(sys.argv[1])
    print(json.dumps(main(Path(given["folder"]), given["kills"], given["seed"], given["keys"])))
