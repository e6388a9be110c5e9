"""The results, as JSON and as a Markdown table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Timing:
    """The times of one side.

    Attributes:
        medians: in seconds, of each process.
        seconds: all repetitions of all processes.
        compile: additional seconds of the first call, median of the processes.
        peak_bytes: peak memory, maximum of the processes.
    """

    medians: tuple[float, ...]
    seconds: tuple[float, ...]
    compile: float
    peak_bytes: float

    @property
    def median(self) -> float:
        return median(self.medians)


@dataclass(frozen=True)
class Compiled:
    """The figures of our side if it is compiled and not run.

    Attributes:
        seconds: of lowering and compiling.
        arguments, temporaries, outputs, code: bytes, by XLA's memory analysis; only outputs that do not reuse an
            argument's memory.
    """

    seconds: float
    arguments: float
    temporaries: float
    outputs: float
    code: float

    @property
    def total(self) -> float:
        return self.arguments + self.temporaries + self.outputs + self.code


@dataclass(frozen=True)
class Limit:
    """The limit set by the machine's rates.

    Attributes:
        bound: `compute` or `bandwidth`, whichever takes longer.
        seconds: of the work at the measured rate.
        wanted: the share of the limit that is the target.
        parts: model FLOP by part of the work.
        flop: their sum.
        bytes: weights and cache that have to be read.
    """

    bound: str
    seconds: float
    wanted: float | None
    parts: dict[str, float]
    flop: float
    bytes: float


@dataclass(frozen=True)
class Result:
    """One case.

    Attributes:
        case, letter, title, target: of the case.
        ours: our timing, or the figures from compilation.
        theirs: the rival's timing at its best settings; None if it did not run.
        settings: those settings, in words.
        ratios: theirs / ours of each round.
        tried: medians of all settings, in seconds.
        apart: the largest difference between the sides' outputs, relative to the largest entry of its array.
        limit: None if there is none.
        note: a remark for the reader.
    """

    case: str
    letter: str
    title: str
    target: float | None
    ours: Timing | Compiled
    theirs: Timing | None = None
    settings: str = ""
    ratios: tuple[float, ...] = ()
    tried: dict[str, float] = field(default_factory=dict)
    apart: float | None = None
    limit: Limit | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return median(self.ratios) if self.ratios else None

    @property
    def share(self) -> float | None:
        """The share of the limit that is reached."""
        return self.limit.seconds / self.ours.median if self.limit and isinstance(self.ours, Timing) else None


def write(path: Path, machine: dict[str, Any], results: Sequence[Result]) -> None:
    """Writes all results as JSON; other cases of the same machine in the file stay."""
    kept = {}
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8"))
        if old["machine"]["hardware"] == machine["hardware"]:
            kept = old["results"]
    found = kept | {result.case: asdict(result) | {"ratio": result.ratio} for result in results}
    path.write_text(json.dumps({"machine": machine, "results": found}, indent=1) + "\n", encoding="utf-8")


def read_ratios(path: Path) -> dict[str, float]:
    """The ratio of every case in a file of results."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    return {name: one["ratio"] for name, one in raw["results"].items() if one["ratio"] is not None}


def table(results: Sequence[Result]) -> str:
    """A Markdown table."""
    lines = [
        "| case | ours | PyTorch, best setting | ratio (over rounds) | target | of the limit | wanted "
        "| compile, ours / theirs | memory, ours / theirs |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_row(result) for result in results]
    return "\n".join(lines)


def _row(result: Result) -> str:
    ours, theirs, limit = result.ours, result.theirs, result.limit
    if isinstance(ours, Compiled):
        shown = f"compiled only, {limit.flop / 1e12:.2f} TFLOP" if limit else "compiled only"
        took, memory = f"{ours.seconds:.1f} s", f"{ours.total / 2**30:.2f} GiB by XLA's account"
    else:
        shown, took, memory = _spread(ours), f"{ours.compile:.1f} s", _gib(ours)
    if theirs:
        took, memory = f"{took} / {theirs.compile:.1f} s", f"{memory} / {_gib(theirs)}"
    ratio = "–"
    if result.ratio is not None:
        ratio = f"**{_ratio(result.ratio)}** ({_ratio(min(result.ratios))} to {_ratio(max(result.ratios))})"
    cells = [
        f"{result.letter} {result.title}",
        shown,
        f"{_spread(theirs)} ({result.settings})" if theirs else "–",
        ratio,
        f"≥ {result.target:g}" if result.target else "–",
        f"{result.share:.0%} ({limit.bound})" if limit and result.share is not None else "–",
        f"≥ {limit.wanted:.0%}" if limit and limit.wanted else "–",
        took,
        memory,
    ]
    return "| " + " | ".join(cells) + " |"


def _spread(timing: Timing) -> str:
    low, high = min(timing.seconds), max(timing.seconds)
    return f"{_time(timing.median)} ({_time(low)} to {_time(high)})"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _gib(timing: Timing) -> str:
    return f"{timing.peak_bytes / 2**30:.2f} GiB"
