"""Real processes on this machine train one run together, lose one of them, and go on in other numbers."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny import tiny_experiment, write_config

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.training.run import Run
from gptgan_jax.types import GanState

HEARTBEAT_SECONDS = 10
# Long enough in each phase to be stopped in the midst of it; all that is averaged over devices is on.
KEYS: dict[str, Any] = {
    "generator.dropout": 0.1,
    "adversarial.ema_decay": 0.9,
    "objective.replay_size": 16,
    "objective.kl_weight": 0.1,
    "likelihood.steps": 6,
    "continued.steps": 4,
    "warmup.steps": 30,
    "adversarial.steps": 30,
    "evaluation.every": 2,
    "mesh.heartbeat_seconds": HEARTBEAT_SECONDS,
}
STEPS = 70
ONE_STEP: dict[str, Any] = {
    "likelihood.steps": 1,
    "continued.steps": 0,
    "warmup.steps": 0,
    "adversarial.steps": 0,
    "mesh.heartbeat_seconds": HEARTBEAT_SECONDS,
}
ORDERED = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


class Process:
    """`gptgan train` in a process with so many simulated devices; what it says goes to a file."""

    def __init__(self, folder: Path, devices: int, *flags: str, number: int = 0) -> None:
        self.log = folder / f"{time.monotonic_ns()}-{number}.log"
        xla = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices} {ORDERED}"
        paths = os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths}
        command = [sys.executable, "-m", "gptgan_jax", "train", str(folder / "tiny.yaml"), *flags]
        with self.log.open("w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str) -> None:
        limit = time.monotonic() + 600
        while text not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < limit, self.said
            time.sleep(0.05)

    def end(self) -> int:
        return self.process.wait(timeout=600)


def together(folder: Path, devices: int, *flags: str, own: Sequence[Sequence[str]] = ((), ())) -> list[Process]:
    """Two processes of one run, each perhaps with flags of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        Process(folder, devices, "--distributed", f"127.0.0.1:{port},2,{i}", *flags, *own[i], number=i)
        for i in range(2)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_config(tmp_path, KEYS)
    return tmp_path


def last_state(folder: Path) -> GanState:
    """The last checkpoint of the folder's run, on this process's one device."""
    experiment, run_folder = tiny_experiment(folder, KEYS)
    run = Run(experiment, run_folder, lambda line: None)
    with Checkpoints(run_folder.checkpoints, read_only=True) as checkpoints:
        saved = checkpoints.choose("last")
        assert saved.step == STEPS
        return checkpoints.restore(saved, run.target(saved.phase))


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("other.txt", "gptgan: process 1 has another text of data.train, another "),
        ("missing.txt", "gptgan: process 1: "),
        pytest.param("copy.txt", None, marks=pytest.mark.thorough),
    ],
)
def test_processes_with_other_text_refuse_to_train_together_and_write_nothing(
    second: str, said: str | None, tmp_path: Path
) -> None:
    """Each with one line and status 2, though process 1 alone has it. The same text under another path is the same."""
    write_config(tmp_path, ONE_STEP)
    lines = (tmp_path / "corpus.txt").read_text().splitlines()
    (tmp_path / "other.txt").write_text("\n".join([*lines[:-1], "two birds eat now"]) + "\n")
    (tmp_path / "copy.txt").write_text("\n".join(lines) + "\n")
    pair = together(tmp_path, 1, own=[[], ["--data.train", str(tmp_path / second)]])
    ends = [process.end() for process in pair]
    if said is None:
        assert ends == [0, 0], pair[0].said + pair[1].said
        return
    assert ends == [2, 2], pair[0].said + pair[1].said
    for process in pair:
        (line,) = (line for line in process.said.splitlines() if line.startswith("gptgan:"))
        assert line.startswith(said)
        assert "Traceback" not in process.said
    assert not (tmp_path / "runs").exists()


@pytest.mark.always
@pytest.mark.thorough
def test_hosts_that_share_the_checkpoints_alone_go_on_and_end_alike(tmp_path: Path) -> None:
    """Each has a `runs` of its own, and the first one's says whether there is a run, and with which tokenizer."""
    keys = ONE_STEP | {"checkpoints.folder": str(tmp_path / "shared"), "runs_folder": str(tmp_path / "0")}
    write_config(tmp_path, keys)
    own = [[], ["--runs_folder", str(tmp_path / "1")]]
    for more, says in (([], "likelihood step 1"), (["--likelihood.steps", "3", "--extend"], "resuming")):
        pair = together(tmp_path, 1, *more, own=own)
        assert [process.end() for process in pair] == [0, 0], pair[0].said + pair[1].said
        assert says in pair[0].said
    assert [path.name for path in (tmp_path / "1" / "tiny").iterdir()] == ["native-1.log"]
    assert [line["step"] for line in read_metrics(tmp_path / "0" / "tiny") if "loss" in line] == [1, 2, 3]
    pair = together(tmp_path, 1, "--likelihood.steps", "3", "--seed", "5", own=own)
    assert [process.end() for process in pair] == [2, 2], pair[0].said + pair[1].said
    assert all("gptgan: process 0: " in process.said for process in pair)
    assert all("holds a run of another config (seed: 0 -> 5)" in process.said for process in pair)


@pytest.mark.exhaustive
def test_a_pair_that_loses_one_ends_and_its_run_goes_on_with_one_process_and_with_two(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Four devices, then one, then two, with other meshes; it ends where a run on one device ends.

    Three of the four ends come from outside: SIGKILL, SIGTERM, and SIGTERM to one of two.
    """
    alone = tmp_path_factory.mktemp("alone")
    write_config(alone, KEYS)
    undisturbed = Process(alone, 1)

    pair = together(folder, 2, "--mesh.fsdp", "2")
    pair[0].wait_for("warmup  ")
    pair[1].process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    assert pair[0].end() != 0
    assert time.monotonic() - killed < HEARTBEAT_SECONDS + 40
    # Whichever of JAX's threads notices it first: the heartbeat's, or one in the middle of a sum over both processes.
    ends = "lost contact with another one|another task died|Fatal Python error: Aborted"
    assert re.search(ends, pair[0].said), pair[0].said
    assert "if another process ends, so does this one" in pair[0].said

    one = Process(folder, 1)
    one.wait_for("adversarial step 44")
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == 0
    assert "resuming" in one.said
    assert "the same command resumes from here" in one.said

    preempted = together(folder, 1)
    preempted[0].wait_for("adversarial step 50")
    preempted[1].process.send_signal(signal.SIGTERM)
    assert [process.end() for process in preempted] == [0, 0], preempted[0].said + preempted[1].said
    assert "the same command resumes from here" in preempted[0].said

    pair = together(folder, 1, "--mesh.fsdp", "2")
    assert [process.end() for process in pair] == [0, 0], pair[0].said + pair[1].said
    assert "resuming" in pair[0].said
    assert "step" not in pair[1].said.replace("[Gloo]", ""), "only one of them speaks"

    assert undisturbed.end() == 0, undisturbed.said
    ours, theirs = last_state(folder), last_state(alone)
    for mine, other in zip(
        jax.tree.leaves(ours.replace(key=None)), jax.tree.leaves(theirs.replace(key=None)), strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=2e-3, atol=2e-4)
    steps = [
        [(line["phase"], line["step"]) for line in read_metrics(each / "runs" / "tiny")] for each in (folder, alone)
    ]
    assert steps[0] == steps[1]
