"""`--profile A:B`: a trace of these steps, and the same run with it and without."""

from pathlib import Path

import jax
import pytest
from tiny import write_config

from gptgan_jax.cli import main
from gptgan_jax.config.files import load_config
from gptgan_jax.training.profiling import Profiler

SHORT = {"likelihood.steps": 4, "continued.steps": 0, "warmup.steps": 2, "adversarial.steps": 0}


class Traces:
    """Stands in for JAX's profiler, and keeps what it was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: self.calls.append(f"start {folder.name}"))
        monkeypatch.setattr(jax.profiler, "stop_trace", lambda: self.calls.append("stop"))


def make(profiler: Profiler, traces: Traces, first: int, last: int) -> None:
    with profiler:
        for step in range(first, last + 1):
            with profiler.step(step):
                traces.calls.append(str(step))
            profiler.made(step, {})


@pytest.mark.parametrize(
    ("steps", "begun", "calls"),
    [
        ((), 1, "1 2 3 4 5"),
        ((2, 3), 1, "1 start profile 2 3 stop 4 5"),
        ((1, 1), 1, "start profile 1 stop 2 3 4 5"),
        ((4, 9), 1, "1 2 3 start profile 4 5 stop"),
        ((2, 4), 3, "start profile 3 4 stop 5"),
        ((1, 2), 3, "3 4 5"),
    ],
)
def test_the_trace_holds_the_steps_of_the_range_that_are_made(
    steps: tuple[int, ...], begun: int, calls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = Traces(monkeypatch)
    make(Profiler(Path("run"), steps), traces, begun, 5)
    assert " ".join(traces.calls) == calls


def test_a_process_that_does_not_write_traces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = Traces(monkeypatch)
    make(Profiler(Path("run"), (1, 2), active=False), traces, 1, 3)
    assert traces.calls == ["1", "2", "3"]


def test_a_step_that_fails_ends_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = Traces(monkeypatch)
    profiler = Profiler(Path("run"), (1, 9))
    with pytest.raises(RuntimeError), profiler, profiler.step(1):
        raise RuntimeError
    assert traces.calls == ["start profile", "stop"]


@pytest.mark.thorough
def test_a_run_leaves_its_trace_and_is_the_same_run_without(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Steps 3 to 5 lie in two phases. The later commands find the run done."""
    config = str(write_config(tmp_path, SHORT))
    run = tmp_path / "runs" / "tiny"
    assert main(["train", config, "--profile", "3:5"]) == 0
    (trace,) = (run / "profile").glob("plugins/profile/*/*.xplane.pb")
    content = trace.read_bytes()
    assert b"step_num" in content
    assert load_config(run / "config.yaml").records.profile == (3, 5)
    before = sorted((run / "checkpoints").rglob("*"))
    capsys.readouterr()
    assert main(["train", config]) == 0
    assert main(["train", config, "--profile=1:2"]) == 0
    assert capsys.readouterr().err.count("all 6 steps are already done") == 2
    assert sorted((run / "checkpoints").rglob("*")) == before
    assert [path.read_bytes() for path in (run / "profile").rglob("*.xplane.pb")] == [content]
