"""Progress: plain lines without a terminal, a bar on one, and rates that are those of the steps alone."""

import io
import re

import pytest

from gptgan_jax.training.progress import Progress


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(
    stream: io.StringIO, steps: int, seconds: float = 0.5, start: int = 0, compile_seconds: float = 60.0
) -> list[str]:
    clock = Clock()
    with Progress.open("adversarial", steps, start, stream=stream, clock=clock) as progress:
        for step in range(start + 1, steps + 1):
            clock.now += compile_seconds if step == start + 1 else seconds
            progress.update(step, 1000, {"loss": 2.3119, "D accuracy": 0.71})
    return stream.getvalue().splitlines()


def test_plain_output_is_lines_at_most_one_every_few_seconds_and_the_last() -> None:
    stream = io.StringIO()
    lines = run(stream, 100, seconds=0.5)
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    assert lines[0] == "adversarial  0/100  compiling"
    assert lines[-1] == "adversarial  100/100  2.0 steps/s  2.0k tokens/s  loss 2.31  D accuracy 0.71"
    steps = [int(re.findall(r"^adversarial  (\d+)/100", line)[0]) for line in lines[1:]]
    assert steps == [1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100]
    assert lines[2].startswith("adversarial  11/100  2.0 steps/s  2.0k tokens/s  ETA 0:44  loss")


def test_a_run_that_is_cut_short_still_shows_its_last_update() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress.open("likelihood", 100, stream=stream, clock=clock)
    for step in (1, 2, 3):
        clock.now += 0.1
        progress.update(step, 10, {})
    progress.close()
    progress.close()
    assert stream.getvalue().splitlines()[1:] == ["likelihood  3/100  10 steps/s  100 tokens/s  ETA 0:10"]


@pytest.mark.parametrize("compile_seconds", [0.1, 600.0])
def test_the_rate_leaves_out_the_compilation(compile_seconds: float) -> None:
    assert "  4.0 steps/s  4.0k tokens/s" in run(io.StringIO(), 40, 0.25, compile_seconds=compile_seconds)[-1]


def test_the_rate_leaves_out_pauses_and_counts_steps_that_come_together() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress.open("likelihood", 60, stream=stream, clock=clock) as progress:
        for step in range(10, 61, 10):
            clock.now += 5.0
            progress.update(step, 500, {})
            with progress.paused():
                clock.now += 100.0
    assert stream.getvalue().splitlines()[-1] == "likelihood  60/60  2.0 steps/s  100 tokens/s"


def test_the_rate_is_smooth_and_follows() -> None:
    clock, stream = Clock(), io.StringIO()
    rates = []
    with Progress.open("likelihood", 2000, stream=stream, clock=clock) as progress:
        for step in range(1, 1001):
            jitter = 0.05 if step % 2 else 0.15
            clock.now += jitter if step <= 600 else 4 * jitter
            progress.update(step, 1, {})
            rates.append(progress._note())
    steady = [float(rate.split(" steps/s")[0]) for rate in rates[200:600]]
    assert all(9.8 <= rate <= 10.2 for rate in steady)
    assert rates[-1].startswith("2.5 steps/s")


def test_a_resumed_phase_starts_where_it_was() -> None:
    lines = run(io.StringIO(), 100, start=90)
    assert lines[0] == "adversarial  90/100  compiling"
    assert "2.0 steps/s" in lines[-1]


def test_a_terminal_gets_a_bar_and_messages_lines_of_their_own() -> None:
    clock, stream = Clock(), Terminal()
    with Progress.open("adversarial", 10, stream=stream, clock=clock) as progress:
        for step in range(1, 11):
            clock.now += 0.5
            progress.update(step, 2000, {"loss": 2.31})
            if step == 5:
                progress.message("evaluation: fine\n  twice")
    shown = stream.getvalue()
    assert "\revaluation: fine\n  twice\n" in shown, "a message begins where the bar was cleared"
    last = shown.rstrip().split("\r")[-1]
    assert last.startswith("adversarial 100%|")
    assert last.endswith("10/10  2.0 steps/s  4.0k tokens/s  loss 2.31")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_message_cannot_steer_the_terminal(stream: io.StringIO) -> None:
    with Progress.open("likelihood", 10, stream=stream) as progress:
        progress.message("the\x1b[2J dog\rbarks\nloudly")
    assert "the\\x1b[2J dog\\rbarks\nloudly\n" in stream.getvalue()


def test_figures_that_are_not_finite_or_very_small_show_as_such() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress.open("likelihood", 1, stream=stream, clock=clock) as progress:
        progress.update(1, 10, {"loss": float("nan"), "kl": 1.5e-5, "reward": -0.25, "length": 1234.5})
    assert stream.getvalue().splitlines()[-1] == "likelihood  1/1  loss nan  kl 1.50e-05  reward -0.25  length 1,234"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_an_inactive_process_shows_nothing(stream: io.StringIO) -> None:
    with Progress.open("likelihood", 2, active=False, stream=stream) as progress:
        progress.update(1, 10, {"loss": 1.0})
        progress.message("hello")
    assert stream.getvalue() == ""
