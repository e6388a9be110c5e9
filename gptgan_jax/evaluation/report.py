"""The report that a run ends with: report.md, and beside it loss.png and discriminator.png.

All of it can be written of a half-finished run: what has not been recorded is left out.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gptgan_jax.runs.records import one_line, read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]

REPORT_FILE, LOSS_FILE, DISCRIMINATOR_FILE = "report.md", "loss.png", "discriminator.png"
HEALTHY_ACCURACY = (0.55, 0.95)
# The panels of discriminator.png: key of the records, name, unit.
PANELS = (
    ("discriminator_accuracy", "discriminator\naccuracy", "pairs ranked right"),
    ("entropy", "generator\nentropy", "nats/token"),
    ("length", "mean length\nof samples", "tokens"),
    ("kl", "KL to the\nreference", "nats/token"),
)
BLUE, ORANGE, GREEN = "#1f5fa8", "#d1570a", "#2e8b57"
TINTS = ("#edf2f8", "#fdf1dd", "#f3eefa", "#f3f3f0")


@dataclass(frozen=True)
class Score:
    """One row of the result table.

    Attributes:
        name: what is measured.
        values: by column, such as {"likelihood": 2.1, "real text": 1.8}; None or no entry if not measured.
        unit: of the values, such as "nats/token"; empty for a pure number.
        signature: all that a comparable measurement must share, such as "n=4, 1000 references".
        errors: standard errors of the values, shown after "±"; None or no entry where there is none.
    """

    name: str
    values: Mapping[str, float | None]
    unit: str = ""
    signature: str = ""
    errors: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class PhaseSpan:
    """A training phase on the axis of global steps: it made the steps first_step + 1 … last_step."""

    name: str
    first_step: int
    last_step: int


@dataclass(frozen=True)
class SamplePair:
    """What the generator wrote from one key before and after the adversarial phase; None where it has not."""

    before: str | None
    after: str | None
    prompt: str = ""


@dataclass(frozen=True)
class Alarm:
    """Something looked wrong with the training at a global step."""

    phase: str
    step: int
    text: str


def alarms_in(records: Iterable[Record]) -> list[Alarm]:
    """The alarms among the records that `read_metrics` gives."""
    return [Alarm(str(r["phase"]), int(r["step"]), str(r["alarm"])) for r in records if "alarm" in r]


def phases_in(records: Iterable[Record]) -> list[PhaseSpan]:
    """The phases as far as they show in the records: each from the last record of the one before."""
    last: dict[str, int] = {}
    for record in records:
        last[record["phase"]] = record["step"]
    return [PhaseSpan(b[0], a[1], b[1]) for a, b in pairwise([("", 0), *last.items()])]


def escape(text: str) -> str:
    """One line of Markdown that shows the text literally, also inside a table: no HTML, no markup."""
    entities = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "`": "&#96;"}
    text = "".join(entities.get(char, char) for char in one_line(text))
    return re.sub(r"([\\*_\[\]~$#])(?<!&#)", r"\\\1", text).replace("\t", " ")


def score_table(scores: Sequence[Score]) -> str:
    """The scores as a Markdown table that also reads well as plain text; columns in order of appearance."""
    columns = list(dict.fromkeys(column for score in scores for column in score.values))
    signed = any(score.signature for score in scores)
    rows = []
    for score in scores:
        name = escape(score.name) + (f" ({escape(score.unit)})" if score.unit else "")
        values = _row_values(score, columns)
        rows.append([name, *values, escape(score.signature)][: None if signed else -1])
    heads = ["score", *map(escape, columns)] + (["measured with"] if signed else [])
    return _table([heads, *rows], right=range(1, len(columns) + 1))


def write_report(
    folder: str | Path,
    title: str,
    command: str,
    config_text: str,
    phases: Sequence[PhaseSpan],
    scores: Sequence[Score],
    samples: Sequence[SamplePair],
    alarms: Sequence[Alarm],
    notes: Sequence[str],
) -> Path:
    """Writes report.md, loss.png and discriminator.png into a run folder, over those of an earlier report.

    The curves are of the folder's metrics.jsonl; a record's `loss` is the likelihood phase's, in nats per token.

    Args:
        folder: the run folder.
        title: the report's heading.
        command: the shell command that reproduces the run.
        config_text: the resolved config, as YAML.
        phases: what to shade behind the curves; empty for what the records show.
        scores: the result table.
        samples: pairs from equal keys.
        alarms: those that fired; `alarms_in` finds them in the records.
        notes: plain text, one bullet each.

    Returns: the path of report.md.
    """
    folder = Path(folder)
    records = [record for record in read_metrics(folder) if "alarm" not in record]
    phases = phases or phases_in(records)
    parts = [f"# {escape(title)}"]
    parts += ["\n".join(f"- {escape(note)}" for note in notes)] if notes else []
    parts += ["## Results", score_table(scores)] if scores else []
    pictures = [
        ("Loss", LOSS_FILE, loss_figure(records, phases)),
        ("Discriminator and generator", DISCRIMINATOR_FILE, discriminator_figure(records, phases)),
    ]
    for heading, name, figure in pictures:
        (folder / name).unlink(missing_ok=True)
        if figure is not None:
            figure.savefig(folder / name, dpi=100)
            parts += [f"## {heading}", f"![{heading}]({name})"]
    parts += ["## Samples", _sample_table(samples)] if samples else []
    fired = [f"- {escape(alarm.phase)}, step {alarm.step}: {escape(alarm.text)}" for alarm in alarms]
    parts += ["## Alarms", "\n".join(fired) or "None fired."]
    parts += ["## Configuration", _fence(config_text, "yaml"), "## Reproduce", _fence(command, "sh")]
    path = folder / REPORT_FILE
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def loss_figure(records: Sequence[Record], phases: Sequence[PhaseSpan]) -> "Figure | None":
    """Training and validation loss over the global step, 800 pixels wide; None where neither was recorded."""
    train = _curve(records, "loss")
    valid = _curve(records, "valid_nats_per_token")
    if not len(train[0]) and not len(valid[0]):
        return None
    figure, (axes,) = _figure(1, 4.4)
    if len(train[0]):
        smooth = _running_mean(train[1])
        label = "training" if smooth is train[1] else "training (running mean)"
        axes.plot(*train, color=BLUE, linewidth=0.8, alpha=0.3)
        axes.plot(train[0], smooth, color=BLUE, marker=_marker(train), label=label)
    if len(valid[0]):
        axes.plot(*valid, color=ORANGE, marker="o", label="validation")
    axes.set_ylabel("loss (nats/token)")
    _shade([axes], phases, [train[0], valid[0]])
    axes.legend(loc="best", framealpha=0.9)
    return figure


def discriminator_figure(records: Sequence[Record], phases: Sequence[PhaseSpan]) -> "Figure | None":
    """The health of the adversarial game, one panel per recorded key of PANELS; None where none was."""
    curves = [(panel, curve) for panel in PANELS if len((curve := _curve(records, panel[0]))[0])]
    if not curves:
        return None
    figure, all_axes = _figure(len(curves), 1.1 + 1.6 * len(curves))
    for axes, ((name, label, unit), curve) in zip(all_axes, curves, strict=True):
        axes.plot(*curve, color=BLUE, marker=_marker(curve))
        axes.set_ylabel(f"{label}\n({unit})")
        if name == "discriminator_accuracy":
            low, high = HEALTHY_ACCURACY
            axes.axhspan(low, high, color=GREEN, alpha=0.22, lw=0, label=f"healthy: {low:g} to {high:g}")
            axes.set_ylim(min(0.35, curve[1].min() - 0.05), 1.03)
            axes.legend(loc="lower right", framealpha=0.9, fontsize=9)
    _shade(all_axes, phases, [curve[0] for _, curve in curves])
    return figure


def _figure(panels: int, height: float) -> "tuple[Figure, list[Axes]]":
    # Imported late as it is slow; without pyplot, which has global state and may look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = list(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])
    for axes in all_axes:
        axes.grid(color="0.85", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[-1].set_xlabel("global step (updates)")
    return figure, all_axes


def _shade(all_axes: "Sequence[Axes]", phases: Sequence[PhaseSpan], steps: Sequence[np.ndarray]) -> None:
    """Tints each phase, names it over the topmost panel and sets the step axis to what was recorded."""
    drawn = np.concatenate(steps)
    low, high = float(drawn.min()), float(drawn.max())
    margin = 0.02 * (high - low) or 1.0
    left, right = low - margin, high + margin
    all_axes[0].set_xlim(left, right)
    all_axes[0].locator_params(axis="x", integer=True)
    row = 0
    for number, phase in enumerate(phases):
        begin, end = max(phase.first_step, left), min(phase.last_step, right)
        # A phase that ends where the curves begin, or the reverse, would only be a sliver of the margin.
        if phase.last_step < low or phase.first_step >= high > low or end <= begin:
            continue
        for axes in all_axes:
            axes.axvspan(begin, end, color=TINTS[number % len(TINTS)], linewidth=0, zorder=0)
        # The axes are 7 inches wide, a letter is .09: a name that is wider than its phase gets its own row.
        need = 0.09 * len(phase.name) / 7 * (right - left)
        row = 0 if need <= end - begin else row + 1
        centre = min(max((begin + end) / 2, left + need / 2), right - need / 2)
        at, points = all_axes[0].get_xaxis_transform(), (0, 4 + 14 * row)
        name = all_axes[0].annotate(phase.name, (centre, 1), points, at, "offset points", color="0.3")
        name.set(ha="center", parse_math=False)


def _curve(records: Iterable[Record], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps and the finite values of one key."""
    points = [(r["step"], r[name]) for r in records if isinstance(r.get(name), int | float)]
    array = np.array(points, dtype=float).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _running_mean(values: np.ndarray) -> np.ndarray:
    """A centred mean over a 25th of the values, less at both ends; the values themselves where they are few."""
    half = len(values) // 50
    if half == 0:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    left = np.minimum(half, at)
    right = np.minimum(left, at[::-1])
    return (sums[at + right + 1] - sums[at - left]) / (left + right + 1)


def _marker(curve: tuple[np.ndarray, np.ndarray]) -> str:
    return "o" if len(curve[0]) <= 25 else ""


def _row_values(score: Score, columns: Sequence[str]) -> list[str]:
    """Equally many decimals along a row, so that its values compare at a glance."""
    values = [score.values.get(column) for column in columns]
    errors = [score.errors.get(column) for column in columns]
    finite = [v for v in values if v is not None and math.isfinite(v)]
    top, whole = max(map(abs, finite), default=0.0), all(isinstance(v, int) for v in finite)
    decimals = 0 if whole else 1 if top >= 100 else 2 if top >= 10 else 3 if top >= 0.1 else 5
    shown = ["–" if v is None else f"{v:,.{decimals}f}" for v in values]
    return [v if e is None else f"{v} ± {e:,.{decimals}f}" for v, e in zip(shown, errors, strict=True)]


def _table(rows: Sequence[Sequence[str]], right: Collection[int]) -> str:
    """A Markdown table, its first row the heads; the columns in `right` are right aligned."""
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * (w - 1) + (":" if i in right else "-") for i, w in enumerate(widths)]
    pad = [str.rjust if i in right else str.ljust for i in range(len(widths))]
    lines = (map(lambda p, c, w: p(c, w), pad, row, widths) for row in [rows[0], rule, *rows[1:]])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _sample_table(samples: Sequence[SamplePair]) -> str:
    names = {"prompt": "prompt", "before": "before the adversarial phase", "after": "after it"}
    used = [name for name in names if any(getattr(pair, name) for pair in samples)]
    rows = [[str(i), *(_cell(getattr(pair, n)) for n in used)] for i, pair in enumerate(samples, start=1)]
    return _table([["", *(names[name] for name in used)], *rows], right=[0])


def _cell(text: str | None) -> str:
    return "–" if text is None else escape(text) or "*(empty)*"


def _fence(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"
