"""The progress shown during training: a bar per phase on a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm

from gptgan_jax.runs.records import one_line

PLAIN_SECONDS = 5.0
SMOOTHING_SECONDS = 15.0
BAR_FIGURES = {
    "loss": "loss",
    "discriminator_loss": "D loss",
    "discriminator_accuracy": "D accuracy",
    "prompt_accuracy": "on a prompt",
    "class_loss": "class loss",
    "class_accuracy": "class accuracy",
    "reward": "reward",
    "entropy": "entropy",
    "kl": "KL",
    "repetition": "repeats",
}
"""Metrics of a step that the bar shows, with their short names."""


class Progress:
    """The progress of one phase: steps, steps/s, tokens/s, time left, and a few metrics.

    Rates exclude the first step, which compiles, and time inside `paused`; older steps have less and less weight.
    """

    def __init__(
        self,
        phase: str,
        total: int,
        start: int,
        active: bool,
        stream: TextIO | None,
        clock: Callable[[], float],
    ) -> None:
        """Use `Progress.open`."""
        self._phase, self._total, self._step = phase, total, start
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._rate = _Rate()
        self._mark: float | None = None
        self._figures: Mapping[str, float] = {}
        self._shown_at, self._shown_step = clock(), start
        self._bar: _Bar | None = None
        self._open = active
        if active and self._stream.isatty():
            self._bar = _Bar(
                total=total,
                initial=start,
                desc=phase,
                file=self._stream,
                dynamic_ncols=True,
                miniters=1,
                leave=True,
            )
        elif active and start < total:
            self._print(f"{phase}  {start}/{total}  compiling")

    @classmethod
    def open(
        cls,
        phase: str,
        total: int,
        start: int = 0,
        *,
        active: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> "Progress":
        """Starts to show the progress of a phase.

        Args:
            phase: its name.
            total: its length in steps.
            start: steps already made before a resume.
            active: if False nothing is shown, as in all processes but the first.
            stream: by default standard error. A terminal gets the bar.
            clock: returns seconds.
        """
        return cls(phase, total, start, active, stream, clock)

    def update(self, step: int, tokens: int, figures: Mapping[str, float]) -> None:
        """Shows the progress after new steps.

        Args:
            step: steps of the phase made so far, including those before a resume.
            tokens: tokens trained on since the last update.
            figures: the latest metrics by their short names, such as {"loss": 2.31, "D accuracy": 0.71}.
        """
        if not self._open:
            return
        now = self._clock()
        if self._mark is not None:
            self._rate.add(step - self._step, tokens, now - self._mark)
        self._mark, self._step, self._figures = now, step, figures
        if self._bar is not None:
            self._bar.note = self._note()
            self._bar.update(step - self._bar.n)
        elif step >= self._total or now - self._shown_at >= PLAIN_SECONDS:
            self._show_line(now)

    def speed(self) -> dict[str, float]:
        """Tokens per second, under their name in the records; empty if not known yet."""
        rate = self._rate
        return {"tokens_per_second": rate.tokens / rate.seconds} if rate.seconds > 0 else {}

    def message(self, text: str) -> None:
        """Prints text, such as an alarm or the result of an evaluation, on separate lines."""
        if not self._open:
            return
        clean = "\n".join(one_line(line) for line in text.split("\n"))
        if self._bar is not None:
            self._bar.write(clean, file=self._stream)
        else:
            self._print(clean)

    def busy(self, what: str, at_once: bool = False) -> None:
        """Shows work between two steps and its progress; frequent calls are limited to one every few seconds."""
        now = self._clock()
        if not self._open or (now - self._shown_at < PLAIN_SECONDS and not at_once):
            return
        self._shown_at = now
        if self._bar is None:
            self._print(f"{self._phase}  {self._step}/{self._total}  {what}")
        else:
            self._bar.note = what
            self._bar.refresh()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes the time in this context, as of an evaluation or a checkpoint, from the steps' time."""
        begin = self._clock()
        try:
            yield
        finally:
            if self._mark is not None:
                self._mark += self._clock() - begin

    def close(self) -> None:
        """Shows the last update, if it was not shown yet, and closes the bar; further calls do nothing."""
        if not self._open:
            return
        self._open = False
        if self._bar is not None:
            self._bar.close()
        elif self._shown_step != self._step:
            self._show_line(self._clock())

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _note(self) -> str:
        parts = []
        if self._rate.seconds > 0 and self._rate.steps > 0:
            steps_per_second = self._rate.steps / self._rate.seconds
            parts.append(f"{_short(steps_per_second)} steps/s")
            parts.append(f"{_short(self._rate.tokens / self._rate.seconds)} tokens/s")
            if self._step < self._total:
                parts.append(f"ETA {_duration((self._total - self._step) / steps_per_second)}")
        parts += [f"{name} {_figure(float(value))}" for name, value in self._figures.items()]
        return "  ".join(parts)

    def _show_line(self, now: float) -> None:
        self._shown_at, self._shown_step = now, self._step
        self._print(f"{self._phase}  {self._step}/{self._total}  {self._note()}".rstrip())

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class _Rate:
    """Sums of steps, tokens and seconds that decay by 1/e in SMOOTHING_SECONDS."""

    def __init__(self) -> None:
        self.steps = self.tokens = self.seconds = 0.0

    def add(self, steps: float, tokens: float, seconds: float) -> None:
        keep = math.exp(-max(seconds, 0.0) / SMOOTHING_SECONDS)
        self.steps = keep * self.steps + steps
        self.tokens = keep * self.tokens + tokens
        self.seconds = keep * self.seconds + max(seconds, 0.0)


class _Bar(tqdm):
    """tqdm with our own rates, as its own would count compilation as training."""

    monitor_interval = 0  # no monitor thread

    def __init__(self, **options: Any) -> None:
        self.note = "compiling"
        super().__init__(bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}  {note}", **options)

    @property
    def format_dict(self) -> dict[str, Any]:
        return {**super().format_dict, "note": self.note}


def _short(value: float) -> str:
    """Two or three significant digits: 0.071, 3.1, 42, 5.4k, 1.2M."""
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g}{suffix}" if value >= 9.95 * factor else f"{value / factor:.1f}{suffix}"
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"


def _figure(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1000:
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:.2e}" if abs(value) < 1e-3 else f"{value:,.0f}"


def _duration(seconds: float) -> str:
    """Such as 0:58, 12:05 or 3:00:10."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
