"""Tables say what was measured and how surely, and never more than that."""

import math

import pytest
from scipy import stats

from gptgan_jax.evaluation.frontiers import BestDrawing, Dominance, DominanceRow, Gap
from gptgan_jax.evaluation.results import Axes, Score
from gptgan_jax.metrics.estimates import REAL, Better, Estimate
from gptgan_jax.reports.document import Bold, Italic
from gptgan_jax.reports.tables import (
    area_table,
    best_table,
    clearly_best,
    dominance_table,
    estimates_shown,
    number,
    samples_table,
    score_table,
    spreads_shown,
    table_of_scores,
)

AXES = Axes("BLEU-4", "held-out NLL", "higher", "lower", "", "nats/token")


def score(
    better: Better = "lower", name: str = "x", unit: str = "", signature: str = "", **values: Estimate | float
) -> Score:
    estimates = {
        column.replace("_", " "): one if isinstance(one, Estimate) else Estimate(one) for column, one in values.items()
    }
    return Score(name, unit, signature, better, estimates)


def test_the_score_table_is_right_aligned_with_units_signatures_and_gaps() -> None:
    table = score_table(
        [
            score(
                name="loss",
                unit="nats/token",
                signature="held out",
                likelihood=2.25,
                real_text=Estimate(None),
                adversarial=12.0,
            ),
            score("higher", name="BLEU-4 | <b>", likelihood=0.5),
            score("real", name="texts", signature="all", likelihood=1000, adversarial=float("nan")),
        ]
    ).splitlines()
    assert len({len(line) for line in table}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]
    assert cells[0] == ["score", "better", "likelihood", "adversarial", "real text", "measured with"]
    assert [cell.endswith(":") for cell in cells[1]] == [False, False, True, True, True, False]
    assert cells[2] == ["loss (nats/token)", "↓", "2.25", "12.00", "–", "held out"]
    assert cells[3] == ["BLEU-4 &#124; &lt;b&gt;", "↑", "0.500", "–", "–", ""]
    assert cells[4] == ["texts", "real", "1,000", "–", "–", "all"]
    assert "measured with" not in score_table([score(likelihood=2.0)])


def test_values_of_a_row_have_equal_decimals_and_never_nan() -> None:
    row = [Estimate(2.5, 0.0123), Estimate(12.0, None), Estimate(math.inf), Estimate(-math.inf), Estimate(None), None]
    assert estimates_shown(row) == ["2.50 ± 0.01", "12.00", "∞", "-∞", "–", "–"]
    nan = float("nan")
    assert estimates_shown([Estimate(nan, nan), Estimate(0.5, nan)]) == ["–", "0.500"]
    assert estimates_shown([Estimate(math.inf, 1.0), Estimate(1.0, math.inf)]) == ["∞", "1.000 ± ∞"]
    assert estimates_shown([Estimate(0.01234)]) == ["0.01234"]
    assert estimates_shown([Estimate(1234.5, 2.0)]) == ["1,234.5 ± 2.0"]
    assert estimates_shown([Estimate(1000.0)]) == ["1,000"], "a count keeps no decimals, also as it is read from JSON"
    assert estimates_shown([Estimate(1.0, 0.004)]) == ["1.000 ± 0.004"]
    assert estimates_shown([Estimate(0.0, 0.004)]) == ["0.000 ± 0.004"]
    assert estimates_shown([]) == []
    assert number(-0.0001, 3) == "0.000"
    assert number(-0.0001, 3, sign=True) == "+0.000"


@pytest.mark.parametrize(
    ("case", "best"),
    [
        (score(a=Estimate(1.0, 0.1), b=Estimate(1.29, 0.1)), "a"),
        (score(a=Estimate(1.0, 0.1), b=Estimate(1.28, 0.1)), None),
        (score("higher", a=Estimate(1.0, 0.1), b=Estimate(1.29, 0.1)), "b"),
        (score(a=Estimate(1.0, 0.1), b=Estimate(2.0, 0.1), c=Estimate(1.1, 0.1)), None),
        (score(a=Estimate(1.0, 0.1), b=Estimate(2.0, 0.1), c=Estimate(None)), "a"),
        (score(a=Estimate(1.0, 0.1)), None),
        (score(a=Estimate(1.0, 0.1), real_text=Estimate(9.0, 0.1)), None),
        (score(a=Estimate(1.0, 0.1), b=Estimate(9.0)), None),
        (score(a=Estimate(1.0), b=Estimate(math.inf)), "a"),
        (score("higher", a=Estimate(1.0), b=Estimate(-math.inf)), "a"),
        (score(a=Estimate(math.inf), b=Estimate(math.inf)), None),
        (score(a=Estimate(float("nan"), 0.1), b=Estimate(1.0, 0.1)), None),
        # Nearest to real text, from one side: real text's own error cancels.
        (score("real", a=Estimate(9.0, 0.1), b=Estimate(8.0, 0.1), real_text=Estimate(10.0, 5.0)), "a"),
        # From both sides it counts, twice: 2 - 1 = 1 against 2 * sqrt(0.02 + (2 * 0.24)^2) = 1.0009, or 0.92 at 0.22.
        (score("real", a=Estimate(9.0, 0.1), b=Estimate(12.0, 0.1), real_text=Estimate(10.0, 0.24)), None),
        (score("real", a=Estimate(9.0, 0.1), b=Estimate(12.0, 0.1), real_text=Estimate(10.0, 0.22)), "a"),
        (score("real", a=Estimate(9.0, 0.1), b=Estimate(12.0, 0.1), real_text=Estimate(10.0)), None),
        (score("real", a=Estimate(9.0, 0.1), b=Estimate(8.0, 0.1)), None),
        (score("real", a=Estimate(9.0, 0.1), b=Estimate(math.inf), real_text=Estimate(10.0, 0.1)), "a"),
    ],
)
def test_bold_is_what_beats_every_other_model_by_two_combined_errors(case: Score, best: str | None) -> None:
    assert clearly_best(case) == best
    (row,) = table_of_scores([case]).rows
    assert [isinstance(cell, Bold) for cell in row[2:]] == [
        column == best for column in sorted(case.values, key=lambda column: column == REAL)
    ]


def test_a_row_over_seeds_has_the_mean_students_interval_and_the_standard_deviation() -> None:
    values = [2.0, 2.5, 3.6]
    low, high = stats.t.interval(0.95, 2, loc=2.7, scale=stats.sem(values))
    cells = [[Estimate(value, 0.1) for value in values], [Estimate(2.0, 0.1)]]
    real = [[Estimate(1.0, 0.02), Estimate(1.2, 0.04)]]
    assert spreads_shown(cells, real) == [
        f"2.700 ({low:.3f} to {high:.3f}; sd 0.819)",
        "2.000 ± 0.100 (1 run)",
        "1.100 ± 0.030",
    ]
    assert (round(low, 3), round(high, 3)) == (0.667, 4.733)


def test_a_row_over_seeds_says_which_runs_have_no_finite_value() -> None:
    two = [Estimate(2.0), Estimate(2.0)]
    assert spreads_shown([[*two, Estimate(None)]], []) == ["2.000 (2.000 to 2.000; sd 0.000; 2 of 3 runs)"]
    assert spreads_shown([[*two, Estimate(math.inf)]], []) == ["∞ (1 of 3 runs)"]
    assert spreads_shown([[Estimate(2.0, 0.1), Estimate(None)]], []) == ["2.000 ± 0.100 (1 of 2 runs)"]
    assert spreads_shown([[Estimate(None)], []], [[], [Estimate(None)]]) == ["–", "–", "–", "–"]
    assert spreads_shown([[Estimate(math.inf)]], []) == ["∞ (1 run)"]


def test_samples_stand_side_by_side_with_gaps_and_empty_texts() -> None:
    table = samples_table({"a": ["one", ""], "b": ["two"]}, ["p", "q"])
    assert table.heads == ("", "prompt", "a", "b")
    assert table.rows == (("1", "p", "one", "two"), ("2", "q", Italic("(empty)"), "–"))
    assert samples_table({"a": ["one"]}, []).heads == ("", "a")


def dominance(low: float | None, verdict: str) -> Dominance:
    gap = Gap(0.25, low, None if low is None else 0.3)
    rows = (
        DominanceRow(2.5, 0.75, 0.5, gap, verdict),
        DominanceRow(2.25, 0.5, None, Gap(None, None, None), "not reached"),
    )
    return Dominance("adversarial", "likelihood", AXES, rows, Gap(0.02, low, low and 0.3), 1 if low is None else 3, "")


def test_gaps_have_their_sign_their_interval_and_the_decimals_of_the_quality() -> None:
    table = dominance_table([dominance(-0.0125, "no difference")], AXES)
    assert table.heads[1:3] == ("held-out NLL (nats/token)", "BLEU-4 of the first")
    pair = "adversarial against likelihood"
    assert table.rows == (
        (pair, "2.500", "0.750", "0.500", "+0.250", "-0.013 to +0.300", "no difference"),
        (pair, "2.250", "0.500", "–", "–", "–", "not reached"),
    )
    assert dominance_table([dominance(None, "too few runs")], AXES).rows[0][4:] == ("+0.250", "–", "too few runs")
    area = area_table([("", dominance(0.01, "higher"))])
    assert area.rows == (("BLEU-4 at equal held-out NLL", pair, "+0.020", "+0.010 to +0.300", "–", "3"),)
    labelled = area_table([("base", dominance(None, "too few runs"))])
    assert labelled.heads[0] == "group"
    assert labelled.rows[0] == ("base", *area.rows[0][:2], "+0.020", "–", "–", "1")
    assert all(len(row) == len(table.heads) for table in (area, labelled) for row in table.rows)


def test_the_best_way_of_drawing_is_reported_on_test_text_beside_what_it_was_chosen_by() -> None:
    chosen = [BestDrawing("likelihood", 0.8, 0.9, Estimate(0.25, 0.01), Estimate(0.5, 0.02), 3)]
    table = best_table({"Jensen-Shannon divergence": chosen}, {"Jensen-Shannon divergence": "nats"})
    assert table.rows == (
        ("Jensen-Shannon divergence (nats)", "likelihood", "0.8", "0.9", "0.250 ± 0.010", "0.500 ± 0.020", "3"),
    )
    assert [head.split()[1] for head in table.heads[4:6]] == ["validation", "test"]
