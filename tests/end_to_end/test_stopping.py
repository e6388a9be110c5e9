"""Real processes that compile or evaluate for ever: a signal ends them, and what there is to save is saved."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_experiment, train_tiny, write_config

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.training.loop import train

LIKELIHOOD_ALONE: dict[str, Any] = {
    "likelihood.steps": 4,
    "continued.steps": 0,
    "warmup.steps": 0,
    "adversarial.steps": 0,
    "evaluation.every": 2,
}


def stopped(number: int, log: Path, place: str, *arguments: str, times: int = 1) -> tuple[int, str]:
    """The exit status of `gptgan ARGUMENTS` that got stuck and then this signal, and what it said."""
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    command = [sys.executable, str(root / "tests" / "stuck.py"), place, *arguments]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    limit = time.monotonic() + 600
    while "stuck" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.05)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.2)
    return process.wait(timeout=600), log.read_text()


def kept(folder: RunFolder) -> list[Saved]:
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        return checkpoints.all()


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.thorough)])
def test_a_run_that_is_stuck_in_an_evaluation_is_saved_and_goes_on_to_the_same(number: int, tmp_path: Path) -> None:
    """The evaluation that was cut short is made up for."""
    for name in ("stopped", "whole"):
        (tmp_path / name).mkdir()
    config = write_config(tmp_path / "stopped", LIKELIHOOD_ALONE)
    status, said = stopped(number, tmp_path / "log", "validation", "train", str(config))
    assert status == 128 + number, said
    name = signal.Signals(number).name
    assert f"gptgan: stopped by {name} while compiling or evaluating; the last good checkpoint is likelihood/2" in said
    experiment, folder = tiny_experiment(tmp_path / "stopped", LIKELIHOOD_ALONE)
    assert [(saved.step, saved.valid_nats) for saved in kept(folder)] == [(2, None)]
    train(experiment, folder, lambda line: None)
    whole, other = tiny_experiment(tmp_path / "whole", LIKELIHOOD_ALONE)
    train(whole, other, lambda line: None)
    assert kept(folder) == kept(other)
    assert read_metrics(folder.path) == read_metrics(other.path)
    assert (folder.path / "samples.txt").read_bytes() == (other.path / "samples.txt").read_bytes()


@pytest.mark.parametrize(
    ("place", "number"),
    [("first state", signal.SIGINT), pytest.param("step", signal.SIGTERM, marks=pytest.mark.thorough)],
)
def test_a_run_that_is_stuck_before_its_first_step_ends(place: str, number: int, tmp_path: Path) -> None:
    config = write_config(tmp_path, LIKELIHOOD_ALONE)
    status, said = stopped(number, tmp_path / "log", place, "train", str(config))
    assert status == 128 + number, said
    assert f"stopped by {signal.Signals(number).name}" in said
    assert "no checkpoint was saved yet" in said


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, -signal.SIGTERM, marks=pytest.mark.thorough)],
)
def test_a_command_that_is_stuck_in_an_evaluation_ends(number: int, expected: int, tmp_path: Path) -> None:
    run = train_tiny(tmp_path, LIKELIHOOD_ALONE)
    (run / "evaluation.json").unlink()
    status, said = stopped(number, tmp_path / "log", "evaluation", "evaluate", str(run))
    assert status == expected, said
    assert ("gptgan: interrupted" in said) == (number == signal.SIGINT)
    assert not (run / "evaluation.json").exists()
