"""Figures with their errors: by hand, and against the spread over fresh draws."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from gptgan_jax.metrics.estimates import (
    Estimate,
    exponential,
    jackknife_error,
    mean_of,
    mixed_ratio,
    ratio_of_sums,
    share_of,
)


def texts(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nats and tokens of texts; the long ones are cheap, so that nats over tokens is no mean of anything."""
    tokens = rng.integers(1, 12, count)
    return tokens * (3 - 0.15 * tokens) + rng.gamma(2.0, 1.0, count), tokens


def of_draws(figure: Callable[[np.random.Generator], Estimate], draws: int) -> tuple[float, float]:
    """The spread of a figure's value over fresh draws, and the root mean square of its errors."""
    found = [figure(np.random.default_rng(seed)) for seed in range(draws)]
    errors = np.array([estimate.error for estimate in found], np.float64)
    return float(np.std([estimate.value for estimate in found], ddof=1)), float(np.sqrt(np.square(errors).mean()))


# --- means ---


def test_a_mean_has_the_standard_error_of_the_mean() -> None:
    values = [1.0, 2.0, 4.0]
    assert mean_of(values) == Estimate(pytest.approx(7 / 3), pytest.approx(np.std(values, ddof=1) / np.sqrt(3)))
    assert mean_of([5.0]) == Estimate(5.0, None)
    assert mean_of([]) == Estimate(None)
    assert mean_of(np.array([])) == Estimate(None)


def test_the_mean_of_trues_has_the_binomial_error() -> None:
    for share in (mean_of([True] * 30 + [False] * 10), mean_of(np.arange(40) < 30)):
        assert share.value == 0.75
        assert share.error == pytest.approx(np.sqrt(0.75 * 0.25 / 39))


# --- shares ---


def agresti_coull(successes: float, count: int) -> float:
    middle = (successes + 2) / (count + 4)
    return math.sqrt(middle * (1 - middle) / (count + 4))


@pytest.mark.parametrize(("successes", "count"), [(30, 40), (0, 40), (40, 40), (1, 1), (0, 1), (500, 1000)])
def test_a_share_has_the_error_of_two_more_successes_and_failures(successes: int, count: int) -> None:
    found = share_of(np.arange(count) < successes)
    assert found == Estimate(successes / count, pytest.approx(agresti_coull(successes, count)))
    assert found.error is not None
    assert found.error > 0, "none and all are no certainty"
    assert share_of(np.arange(count) >= successes).error == pytest.approx(found.error)


def test_the_error_of_a_share_is_its_spread_over_fresh_draws() -> None:
    spread, error = of_draws(lambda rng: share_of(rng.random(200) < 0.3), draws=4000)
    assert error == pytest.approx(spread, rel=0.04)


def test_a_share_of_nothing_is_undefined() -> None:
    assert share_of(np.array([], bool)) == Estimate(None)


# --- ratios ---


def test_a_ratio_of_sums_is_no_mean_of_ratios() -> None:
    assert ratio_of_sums(np.array([1.0, 5.0]), np.array([1, 2])).value == pytest.approx(6 / 3)


def test_a_ratio_of_sums_has_the_error_of_a_bootstrap() -> None:
    nats, tokens = texts(np.random.default_rng(0), 300)
    drawn = np.random.default_rng(1).integers(0, 300, (4000, 300))
    assert ratio_of_sums(nats, tokens).error == pytest.approx(
        (nats[drawn].sum(axis=1) / tokens[drawn].sum(axis=1)).std(), rel=0.05
    )


def test_the_error_of_a_ratio_of_sums_is_its_spread_over_fresh_draws() -> None:
    spread, error = of_draws(lambda rng: ratio_of_sums(*texts(rng, 200)), draws=4000)
    assert error == pytest.approx(spread, rel=0.04)


def test_an_impossible_text_makes_the_ratio_infinite_and_its_error_none() -> None:
    assert ratio_of_sums(np.array([1.0, math.inf, 2.0]), np.array([1, 2, 3])) == Estimate(math.inf, None)


def test_a_ratio_of_no_texts_is_undefined_and_one_of_one_text_has_no_error() -> None:
    assert ratio_of_sums(np.array([]), np.array([])) == Estimate(None)
    assert ratio_of_sums(np.array([6.0]), np.array([4])) == Estimate(1.5, None)


# --- exponentials ---


def test_the_error_of_an_exponential_is_that_of_the_exponent_times_the_slope() -> None:
    found = exponential(Estimate(2.0, 1e-4))
    assert found.value == pytest.approx(math.exp(2.0))
    assert found.error == pytest.approx((math.exp(2.0001) - math.exp(1.9999)) / 2, rel=1e-6)


def test_an_exponential_keeps_what_is_undefined_and_is_infinite_beyond_floating_point() -> None:
    assert exponential(Estimate(None)) == Estimate(None)
    assert exponential(Estimate(1.0)) == Estimate(pytest.approx(math.e), None)
    assert exponential(Estimate(0.0, 0.0)) == Estimate(1.0, 0.0)
    assert exponential(Estimate(math.inf)) == Estimate(math.inf, None)
    assert exponential(Estimate(1e4, 0.1)) == Estimate(math.inf, None)
    assert math.isfinite(exponential(Estimate(690.0)).value or math.inf)


# --- the jackknife ---


def test_the_jackknife_of_a_mean_with_one_value_to_a_group_has_the_classical_standard_error() -> None:
    values = np.random.default_rng(0).gamma(2.0, 1.0, 37)
    twice = np.concatenate([values, values])  # text i and text i + 37 are of one group
    found = jackknife_error(lambda rows: float(twice[rows].mean()), 74, groups=37)
    assert found == pytest.approx(values.std(ddof=1) / math.sqrt(37), rel=1e-9)


def test_the_jackknife_leaves_out_each_group_once_and_a_group_is_every_tenth_text() -> None:
    left_out = []

    def statistic(rows: np.ndarray) -> float:
        left_out.append(sorted(set(range(23)) - set(rows.tolist())))
        assert len(rows) == len(set(rows.tolist()))
        return 0.0

    assert jackknife_error(statistic, 23) == 0.0
    assert left_out == [list(range(group, 23, 10)) for group in range(10)]


@pytest.mark.parametrize("count", [100, 207])
def test_the_jackknife_of_a_curved_statistic_is_its_spread_over_fresh_draws(count: int) -> None:
    def logarithm_of_variance(rng: np.random.Generator) -> Estimate:
        values = rng.normal(size=count)
        return Estimate(
            math.log(values.var()), jackknife_error(lambda rows: math.log(float(values[rows].var())), count)
        )

    spread, error = of_draws(logarithm_of_variance, draws=1500)
    assert error == pytest.approx(spread, rel=0.08)


def test_fewer_than_two_texts_to_a_group_have_no_jackknife() -> None:
    def never(rows: np.ndarray) -> float:
        raise AssertionError("nothing to work out")

    assert jackknife_error(never, 19) is None
    assert jackknife_error(never, 9, groups=5) is None
    assert jackknife_error(lambda rows: float(rows.sum()), 20) is not None
    assert jackknife_error(lambda rows: float(rows.sum()), 10, groups=5) is not None


# ---- mixtures of sources


def drawn_mixture(rng: np.random.Generator, texts: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """(nats, words, tokens, source) of texts of sources that differ in length and in nats a token."""
    of = np.repeat(np.arange(len(texts)), texts)
    tokens = rng.integers(1, 12, len(of)) * (1 + of)
    words = np.maximum(tokens - rng.integers(0, 3, len(of)), 1)
    return tokens * (1.0 + 2 * of) + rng.normal(0, 2, len(of)), words, tokens, of


def test_a_mixtures_figure_is_the_mean_of_its_sources_by_their_weights() -> None:
    nats, words, tokens, of = drawn_mixture(np.random.default_rng(0), (30, 7, 12))
    weights = (0.2, 0.5, 0.3)
    each = [nats[of == i].sum() / tokens[of == i].sum() for i in range(3)]
    per_token = mixed_ratio(nats, tokens, tokens, of, weights)
    assert per_token.value == pytest.approx(np.dot(weights, each))
    errors = [ratio_of_sums(nats[of == i], tokens[of == i]).error or 0.0 for i in range(3)]
    assert per_token.error == pytest.approx(np.sqrt(np.square(np.multiply(weights, errors)).sum()))
    words_of = [words[of == i].sum() / tokens[of == i].sum() for i in range(3)]
    per_word = mixed_ratio(nats, words, tokens, of, weights)
    assert per_word.value == pytest.approx(np.dot(weights, each) / np.dot(weights, words_of))
    # Twice as many texts of one source change nothing; with shares of the texts as weights it is the plain figure.
    twice = np.concatenate([np.arange(len(of)), np.flatnonzero(of == 1)])
    again = mixed_ratio(nats[twice], tokens[twice], tokens[twice], of[twice], weights)
    assert again.value == pytest.approx(per_token.value)
    natural = [tokens[of == i].sum() / tokens.sum() for i in range(3)]
    assert mixed_ratio(nats, words, tokens, of, natural).value == pytest.approx(ratio_of_sums(nats, words).value)


@pytest.mark.parametrize("unit", ["tokens", "words"])
def test_its_error_is_the_spread_of_figures_of_other_texts(unit: str) -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(2000):
        nats, words, tokens, of = drawn_mixture(rng, (60, 40))
        found.append(mixed_ratio(nats, tokens if unit == "tokens" else words, tokens, of, (0.3, 0.7)))
    spread = np.std([one.value for one in found])
    assert np.mean([one.error for one in found]) == pytest.approx(spread, rel=0.08)


def test_a_source_without_texts_leaves_the_others_weights() -> None:
    nats, _, tokens, of = drawn_mixture(np.random.default_rng(2), (9, 8))
    known = mixed_ratio(nats, tokens, tokens, of, (1.0, 3.0))
    assert mixed_ratio(nats, tokens, tokens, np.where(of == 1, 2, 0), (0.1, 0.6, 0.3)) == known
    assert mixed_ratio(nats[:0], tokens[:0], tokens[:0], of[:0], (0.5, 0.5)).value is None
    one = mixed_ratio(nats[:10], tokens[:10], tokens[:10], of[:10], (0.5, 0.5))
    assert one.value is not None
    assert one.error is None
    nats[0] = np.inf
    assert mixed_ratio(nats, tokens, tokens, of, (0.5, 0.5)) == Estimate(np.inf)
