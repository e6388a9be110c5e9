"""Tables of metrics, and how numbers are shown: never "nan", and with equal decimals along a row."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from gptgan_jax.evaluation.frontiers import BestDrawing, Dominance, Gap
from gptgan_jax.evaluation.results import Axes, Score
from gptgan_jax.metrics.estimates import REAL, Estimate
from gptgan_jax.reports.document import Bold, Cell, Italic, Table, to_markdown

MARKS = {"lower": "↓", "higher": "↑", "real": "real"}
# How much better than every other the bold value is, in combined standard errors.
CLEARLY = 2.0


def score_table(scores: Sequence[Score], bold: bool = True) -> str:
    """The scores as a Markdown table that is also readable as plain text, such as in a terminal."""
    return to_markdown([table_of_scores(scores, bold)]).rstrip("\n")


def table_of_scores(scores: Sequence[Score], bold: bool = True) -> Table:
    """A row for each score; the columns are in order of appearance, real text last.

    The best value of a row is bold if it is better than every other model's by more than two combined standard errors.
    With `bold` False, as for unreliable metrics, none is. Without signatures there is no column for them.
    """
    columns = list(dict.fromkeys(column for score in scores for column in score.values))
    columns.sort(key=lambda column: column == REAL)
    signed = any(score.signature for score in scores)
    rows: list[tuple[Cell, ...]] = []
    for score in scores:
        shown = estimates_shown([score.values.get(column) for column in columns])
        best = clearly_best(score) if bold else None
        cells: list[Cell] = [Bold(v) if column == best else v for v, column in zip(shown, columns, strict=True)]
        rows.append((named(score.name, score.unit), MARKS[score.better], *cells, *([score.signature] * signed)))
    heads = ("score", "better", *columns, *(["measured with"] * signed))
    return Table(heads, tuple(rows), right=range(2, len(columns) + 2))


def clearly_best(score: Score) -> str | None:
    """The model column whose value is better than every other model's by more than two combined standard errors.

    None if there is no such column, only one model, or an unknown error. An infinite value has no error; any finite
    value on the better side of it beats it.
    """
    real = score.values.get(REAL)
    models = {column: one for column, one in score.values.items() if column != REAL and _known(one.value)}
    for column, one in models.items():
        others = [other for name, other in models.items() if name != column]
        if others and all(_clearly_better(one, other, score.better, real) for other in others):
            return column
    return None


def _clearly_better(one: Estimate, other: Estimate, better: str, real: Estimate | None) -> bool:
    if one.value is None or other.value is None:
        return False
    errors = [one.error, other.error]
    if better == "real":
        if real is None or not _finite(real.value) or not math.isfinite(one.value):
            return False
        assert real.value is not None
        advantage = abs(other.value - real.value) - abs(one.value - real.value)
        # Real text's error cancels if both values are on one side of it, and counts twice if it is between them.
        if (other.value - real.value) * (one.value - real.value) < 0:
            errors += [None if real.error is None else 2 * real.error]
    else:
        advantage = (other.value - one.value) * (1 if better == "lower" else -1)
    if math.isinf(advantage):
        return advantage > 0
    known = [error for error in errors if error is not None and math.isfinite(error)]
    return len(known) == len(errors) and advantage > CLEARLY * math.hypot(*known)


def samples_table(columns: Mapping[str, Sequence[str]], prompts: Sequence[str]) -> Table:
    """Texts side by side, numbered; shorter columns are filled with "–"."""
    sides = {"prompt": prompts, **columns} if prompts else dict(columns)
    count = max((len(texts) for texts in columns.values()), default=0)
    rows = [
        (str(i + 1), *(_text_cell(texts[i] if i < len(texts) else None) for texts in sides.values()))
        for i in range(count)
    ]
    return Table(("", *sides), tuple(rows), right=[0])


def _text_cell(text: str | None) -> Cell:
    return "–" if text is None else text or Italic("(empty)")


def area_table(compared: Sequence[tuple[str, Dominance]]) -> Table:
    """The mean gap of each comparison, one row each, with a column of labels if there are any."""
    labelled = any(label for label, _ in compared)
    rows = [
        (
            *([label] * labelled),
            f"{one.axes.quality} at equal {one.axes.diversity}",
            f"{one.ours} against {one.theirs}",
            *gap_shown(one.area, _quality_decimals([one])),
            one.axes.quality_unit or "–",
            str(one.runs),
        )
        for label, one in compared
    ]
    heads = (*(["group"] * labelled), "quality", "comparison", "mean gap", "95 % interval", "unit", "runs")
    return Table(heads, tuple(rows), right=[labelled + 2, labelled + 3, labelled + 5])


def dominance_table(compared: Sequence[Dominance], axes: Axes) -> Table:
    """Several comparisons by the same two metrics, level by level."""
    at = decimals_of([row.diversity for one in compared for row in one.rows], whole=False)
    decimals = _quality_decimals(compared)
    rows = [
        (
            f"{one.ours} against {one.theirs}",
            number(row.diversity, at),
            number(row.ours, decimals),
            number(row.theirs, decimals),
            *gap_shown(row.gap, decimals),
            row.verdict,
        )
        for one in compared
        for row in one.rows
    ]
    return Table(
        (
            "comparison",
            named(axes.diversity, axes.diversity_unit),
            named(axes.quality, axes.quality_unit) + " of the first",
            "of the other",
            "gap",
            "95 % interval",
            "verdict on the first",
        ),
        tuple(rows),
        right=range(1, 6),
    )


def _quality_decimals(compared: Sequence[Dominance]) -> int:
    return decimals_of([value for one in compared for row in one.rows for value in (row.ours, row.theirs)], whole=False)


def best_table(chosen: Mapping[str, Sequence[BestDrawing]], units: Mapping[str, str]) -> Table:
    """The temperature and top-p that each combined metric chose for each column."""
    rows = []
    for name, drawings in chosen.items():
        values = estimates_shown([estimate for one in drawings for estimate in (one.valid, one.test)])
        for i, one in enumerate(drawings):
            drawn = (one.column, f"{one.temperature:g}", f"{one.top_p:g}", values[2 * i], values[2 * i + 1])
            rows.append((named(name, units[name]), *drawn, str(one.runs)))
    heads = (
        "chosen by least",
        "column",
        "temperature",
        "top-p",
        "on validation text (chosen by)",
        "on test text (to report)",
        "runs",
    )
    return Table(heads, tuple(rows), right=range(2, 7))


def named(name: str, unit: str) -> str:
    """A metric's name, with its unit if it has one."""
    return f"{name} ({unit})" if unit else name


def estimates_shown(estimates: Sequence[Estimate | None]) -> list[str]:
    """Each as "value ± error" with equally many decimals, for easy comparison; "–" without a value."""
    present = [one or Estimate(None) for one in estimates]
    decimals = decimals_of([one.value for one in present], whole=not any(_known(one.error) for one in present))
    return [_with_error(one, decimals) for one in present]


def spreads_shown(
    over_runs: Sequence[Sequence[Estimate]], real: Sequence[Sequence[Estimate]], shared: Sequence[bool] = ()
) -> list[str]:
    """The cells of one row of a comparison, with equally many decimals.

    Args:
        over_runs: for each cell one estimate per run. Several are shown as their mean, its 95 % Student-t interval and
            the standard deviation; a single one as it is, with a remark; runs without a value are counted.
        real: for each cell one estimate per run, all of the same text, shown as their mean and mean error.
        shared: for each cell of `over_runs`, whether its runs are the common baseline of more runs; by default no.
    """
    means = [
        [one.value for one in cell if _finite(one.value) and one.value is not None] for cell in [*over_runs, *real]
    ]
    bare = not any(len(cell) > 1 or _known(one.error) for cell in [*over_runs, *real] for one in cell)
    decimals = decimals_of([fmean(cell) for cell in means if cell], whole=bare)
    common = [*shared, *[False] * (len(over_runs) - len(shared))]
    spread = [_spread(cell, decimals, one) for cell, one in zip(over_runs, common, strict=True)]
    return spread + [_same_text(cell, decimals) for cell in real]


def _spread(cell: Sequence[Estimate], decimals: int, shared: bool) -> str:
    known = [one for one in cell if _known(one.value)]
    values = [one.value for one in known if one.value is not None]
    if not values:
        return "–"
    infinite = [value for value in values if math.isinf(value)]
    whose = ", shared" * shared
    of = f"{len(known)} of {len(cell)} runs{whose}" if len(known) < len(cell) else ""
    if len(values) == 1:
        return f"{_with_error(known[0], decimals)} ({of or f'1 run{whose}'})"
    if infinite:
        return f"{number(infinite[0], decimals)} ({len(infinite)} of {len(cell)} runs{whose})"
    from scipy import stats  # imported late, as it is slow

    of = of or (f"{len(values)} runs{whose}" if shared else "")
    mean, sd = fmean(values), stdev(values)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
    low, high, mid, spread = (number(value, decimals) for value in (mean - half, mean + half, mean, sd))
    return f"{mid} ({low} to {high}; sd {spread}{'; ' * bool(of)}{of})"


def _same_text(cell: Sequence[Estimate], decimals: int) -> str:
    known = [one for one in cell if _known(one.value)]
    errors = [one.error for one in known if one.error is not None]
    error = fmean(errors) if errors and len(errors) == len(known) else None
    value = fmean([one.value for one in known if one.value is not None]) if known else None
    return _with_error(Estimate(value, error), decimals)


def _with_error(one: Estimate, decimals: int) -> str:
    error = f" ± {number(one.error, decimals)}" if _finite(one.value) and _known(one.error) else ""
    return number(one.value, decimals) + error


def gap_shown(gap: Gap, decimals: int) -> tuple[str, str]:
    """A gap with its sign, and its interval."""
    value = number(gap.value, decimals, sign=True)
    if gap.low is None or gap.high is None:
        return value, "–"
    return value, f"{number(gap.low, decimals, sign=True)} to {number(gap.high, decimals, sign=True)}"


def decimals_of(values: Sequence[float | None], whole: bool = True) -> int:
    """Decimals that show the largest of the values to about four digits; 0 where `whole` and all are whole numbers."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if whole and all(float(value).is_integer() for value in finite):
        return 0
    top = max(map(abs, finite), default=0.0)
    if top == 0:
        return 3
    return 1 if top >= 100 else 2 if top >= 10 else 3 if top >= 0.1 else 5


def number(value: float | None, decimals: int, sign: bool = False) -> str:
    """A value for people: "–" if there is none, "∞" if it is infinite."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return ("-" if value < 0 else "+" if sign else "") + "∞"
    # Adding 0.0 turns -0.0 into 0.0.
    rounded = round(value, decimals) + 0.0
    return f"{rounded:+,.{decimals}f}" if sign else f"{rounded:,.{decimals}f}"


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
