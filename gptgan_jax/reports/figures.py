"""Curves over the training steps, of one run and of several, and what all pictures of a report share.

Each function returns a matplotlib figure 800 pixels wide, or None if nothing of it was recorded.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from gptgan_jax.training.alarms import HEALTHY_ACCURACY

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel
    from matplotlib.figure import Figure

Record = Mapping[str, Any]
Style = dict[str, Any]

# The panels of the discriminator's picture: key in the records, name, unit.
PANELS = (
    ("discriminator_accuracy", "discriminator\naccuracy", "pairs ranked right"),
    ("prompt_accuracy", "the same within\na prompt", "pairs ranked right"),
    ("entropy", "generator\nentropy", "nats/token"),
    ("length", "mean length\nof samples", "tokens"),
    ("kl", "KL to the\nreference", "nats/token"),
    ("repetition", "repeated\n2-grams", "share of a text"),
)
# The panels of the picture that compares runs.
COMPARED = (("valid_nats_per_token", "validation\nloss", "nats/token"), *PANELS)
BLUE, ORANGE, GREEN = "#1f5fa8", "#d1570a", "#2e8b57"
COLORS = (BLUE, ORANGE, GREEN, "#8e4ea8", "#0f8b8d", "#b8860b", "#c2185b", "#5d6670")
LINES = ("-", "--", ":", "-.")
TINTS = ("#edf2f8", "#fdf1dd", "#f3eefa", "#f3f3f0")


@dataclass(frozen=True)
class PhaseSpan:
    """A training phase on the axis of global steps: it has the steps first_step + 1 to last_step."""

    name: str
    first_step: int
    last_step: int


def phases_in(records: Iterable[Record]) -> list[PhaseSpan]:
    """The phases that occur in the records; each begins at the last record of the one before."""
    last: dict[str, int] = {}
    for record in records:
        last[record["phase"]] = record["step"]
    return [PhaseSpan(b[0], a[1], b[1]) for a, b in pairwise([("", 0), *last.items()])]


def sources_in(records: Iterable[Record]) -> list[str]:
    """The sources of a mixture that have separate validation metrics."""
    prefix = "valid_nats_per_token/"
    return list(dict.fromkeys(key.removeprefix(prefix) for one in records for key in one if key.startswith(prefix)))


def loss_figure(records: Sequence[Record], phases: Sequence[PhaseSpan]) -> "Figure | None":
    """Training and validation loss over the global step, the latter also for each source of a mixture.

    A record's `loss` is that of likelihood training, in nats per token.

    Lines break between phases, as a phase need not continue from the generator of the one before it.
    """
    train = _curve(records, "loss")
    valid = _curve(records, "valid_nats_per_token")
    if not len(train[0]) and not len(valid[0]):
        return None
    figure, (panel,) = _stack(1, 4.4)
    for part in _parts(records, "loss"):
        smooth = _running_mean(part[1])
        label = "training" if smooth is part[1] else "training (running mean)"
        panel.plot(*part, color=BLUE, linewidth=0.8, alpha=0.3)
        panel.plot(part[0], smooth, color=BLUE, marker=_marker(part), label=label)
    for part in _parts(records, "valid_nats_per_token"):
        panel.plot(*part, color=ORANGE, marker="o", label="validation")
    for number, name in enumerate(sources_in(records)):
        for part in _parts(records, f"valid_nats_per_token/{name}"):
            style: Style = {"color": COLORS[(number + 2) % len(COLORS)], "linestyle": LINES[1 + number % 3]}
            panel.plot(*part, **style, marker=".", label=f"validation, {name}")
    panel.set_ylabel("loss (nats/token)")
    _shade([panel], phases, [train[0], valid[0]])
    handles = {line.get_label(): line for line in reversed(panel.lines) if not str(line.get_label()).startswith("_")}
    panel.legend(handles=list(handles.values())[::-1], loc="best", framealpha=0.9)
    return figure


def reward_panels(records: Sequence[Record]) -> list[tuple[str, str, str]]:
    """A panel for each reward or measured function of the texts (docs/rewards.md), sorted by name."""
    names = sorted({name for record in records for name in record if name.startswith("reward/")})
    return [(name, f"reward\n{name.removeprefix('reward/')[:24]}", "mean of a text") for name in names]


def discriminator_figure(records: Sequence[Record], phases: Sequence[PhaseSpan]) -> "Figure | None":
    """The health of the adversarial game, one panel per recorded key of PANELS, with real text for comparison."""
    shown = (*PANELS, *reward_panels(records))
    curves = [(panel, curve) for panel in shown if len((curve := _curve(records, panel[0]))[0])]
    if not curves:
        return None
    figure, panels = _stack(len(curves), 1.1 + 1.6 * len(curves))
    for panel, ((name, label, unit), curve) in zip(panels, curves, strict=True):
        panel.plot(*curve, color=BLUE, marker=_marker(curve), label="samples")
        panel.set_ylabel(f"{label}\n({unit})")
        if name in ("discriminator_accuracy", "prompt_accuracy"):
            _healthy_band(panel, curve[1].min())
        real = _curve(records, f"real_{name}")
        if len(real[0]):
            panel.plot(*real, color=ORANGE, linewidth=1, marker=_marker(real), label="real text")
            panel.legend(loc="best", framealpha=0.9, fontsize=9)
    _shade(panels, phases, [curve[0] for _, curve in curves])
    return figure


def comparison_figure(groups: Mapping[str, Sequence[Sequence[Record]]]) -> "Figure | None":
    """Curves of all runs, one colour per group and one line per run; one panel per recorded key of COMPARED.

    Args:
        groups: the records of each of its runs, by label.
    """
    curves = {
        key: [(group, curve) for group, runs in groups.items() for r in runs if len((curve := _curve(r, key))[0])]
        for key, _, _ in COMPARED
    }
    shown = [panel for panel in COMPARED if curves[panel[0]]]
    if not shown:
        return None
    figure, panels = _stack(len(shown), 1.1 + 1.7 * len(shown) + 0.25 * len(groups))
    looks: dict[str, Style] = {
        group: {"color": cycled(COLORS, i), "ls": cycled(LINES, i // len(COLORS)), "lw": line_width(i)}
        for i, group in enumerate(groups)
    }
    for panel, (key, label, unit) in zip(panels, shown, strict=True):
        for group, (steps, values) in curves[key]:
            smooth = _running_mean(values)
            panel.plot(steps, smooth, alpha=0.9, marker=_marker((steps, smooth)), ms=3, **looks[group])
        panel.set_ylabel(f"{label}\n({unit})")
        if key == "discriminator_accuracy":
            _healthy_band(panel, min(curve[1].min() for _, curve in curves[key]))
    legend_above(figure, looks)
    return figure


def blank_figure(height: float) -> "Figure":
    """An empty figure, 8 inches (800 pixels) wide and that many inches high."""
    # Imported late, as it is slow; without pyplot, which has global state and may look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _stack(panels: int, height: float) -> "tuple[Figure, list[Panel]]":
    """Panels stacked vertically over the global step."""
    figure = blank_figure(height)
    all_panels = tidied(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])
    all_panels[-1].set_xlabel("global step (updates)")
    return figure, all_panels


def tidied(panels: "Iterable[Panel]") -> "list[Panel]":
    """The panels, with a grid in the background and without a frame."""
    panels = list(panels)
    for panel in panels:
        panel.grid(color="0.85", linewidth=0.7)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    return panels


def legend_above(figure: "Figure", looks: Mapping[str, Style]) -> None:
    """A legend for lines of these styles, above all panels."""
    from matplotlib.lines import Line2D

    names = [textwrap.fill(name, 90) for name in looks]
    # A letter is 6 pixels wide, a line and the space around it 60 pixels.
    abreast = max(1, 780 // (6 * max(map(len, names)) + 60))
    handles = [Line2D([], [], **look) for look in looks.values()]
    legend = figure.legend(handles, names, loc="outside upper center", ncols=abreast, frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)


def line_width(number: int) -> float:
    """Each line is thinner than the one before, so that a line shows under another that covers it."""
    return max(0.8, 2.2 - 0.6 * number)


def cycled(choices: Sequence[str], number: int) -> str:
    """The choice for a number, starting over after the last."""
    return choices[number % len(choices)]


def _healthy_band(panel: "Panel", least: float) -> None:
    low, high = HEALTHY_ACCURACY
    band = panel.axhspan(low, high, color=GREEN, alpha=0.22, lw=0, label=f"healthy: {low:g} to {high:g}")
    panel.set_ylim(min(0.35, least - 0.05), 1.03)
    panel.legend(handles=[band], loc="best", framealpha=0.9, fontsize=9)


def _shade(panels: "Sequence[Panel]", phases: Sequence[PhaseSpan], steps: Sequence[np.ndarray]) -> None:
    """Tints each phase, names it above the top panel, and limits the step axis to what was recorded."""
    drawn = np.concatenate(steps)
    low, high = float(drawn.min()), float(drawn.max())
    margin = 0.02 * (high - low) or 1.0
    left, right = low - margin, high + margin
    panels[0].set_xlim(left, right)
    panels[0].locator_params(axis="x", integer=True)
    row = 0
    for number, phase in enumerate(phases):
        begin, end = max(phase.first_step, left), min(phase.last_step, right)
        # A phase that only touches the range of the curves would be a sliver in the margin.
        if phase.last_step < low or phase.first_step >= high > low or end <= begin:
            continue
        for panel in panels:
            panel.axvspan(begin, end, color=cycled(TINTS, number), linewidth=0, zorder=0)
        # The panels are 7 inches wide, a letter 0.09 inches: a name that is wider than its phase gets another row.
        need = 0.09 * len(phase.name) / 7 * (right - left)
        row = 0 if need <= end - begin else row + 1
        centre = min(max((begin + end) / 2, left + need / 2), right - need / 2)
        at, points = panels[0].get_xaxis_transform(), (0, 4 + 14 * row)
        name = panels[0].annotate(phase.name, (centre, 1), points, at, "offset points", color="0.3")
        name.set(ha="center", parse_math=False)


def _curve(records: Iterable[Record], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps and the finite values of a key."""
    points = [(r["step"], r[name]) for r in records if isinstance(r.get(name), int | float)]
    array = np.array(points, dtype=float).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _parts(records: Sequence[Record], name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The curves of a key in each phase that has it."""
    phases = dict.fromkeys(record.get("phase") for record in records)
    curves = (_curve([record for record in records if record.get("phase") == phase], name) for phase in phases)
    return [curve for curve in curves if len(curve[0])]


def _running_mean(values: np.ndarray) -> np.ndarray:
    """A centred mean over a 25th of the values, fewer at both ends; the values themselves if there are few."""
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
