"""Figures with standard errors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gptgan_jax.errors import suggests_names

REAL = "real text"
Better = Literal["lower", "higher", "real"]


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error over texts; None if there is no error, or if the value is undefined."""

    value: float | None
    error: float | None = None


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Attributes:
        name: what is measured.
        unit: such as "nats/token"; empty for a pure number.
        estimate: the value and its standard error.
        signature: everything that comparable measurements must share, such as "1000 references, words, method1".
        better: which direction is better; "real" if the value of real text is best.
    """

    name: str
    unit: str
    estimate: Estimate
    signature: str
    better: Better = "real"


@suggests_names
def mean_of(values: Sequence[float] | np.ndarray) -> Estimate:
    """The mean and its standard error; undefined for no values."""
    values = np.asarray(values, np.float64)
    if not len(values):
        return Estimate(None)
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return Estimate(float(values.mean()), error)


@suggests_names
def share_of(which: np.ndarray) -> Estimate:
    """The share of True in bool [N], or the mean of numbers in [0, 1]; undefined for none.

    The standard error is Agresti and Coull's (1998, "Approximate is better than exact"), with two successes and two
    failures added, so it is not 0 for 0 or N successes.
    """
    count, successes = len(which), float(np.sum(which))
    if not count:
        return Estimate(None)
    middle = (successes + 2) / (count + 4)
    return Estimate(successes / count, math.sqrt(middle * (1 - middle) / (count + 4)))


def jackknife_error(statistic: Callable[[np.ndarray], float], count: int, groups: int = 10) -> float | None:
    """Standard error of a statistic that is not a mean over texts: the delete-a-group jackknife.

    Args:
        statistic: a function of some of the texts, given by their indices int [n].
        count: number of texts; text i is of group i mod `groups`.
        groups: the number of groups, left out one at a time.

    Returns:
        None for fewer than 2 texts per group.
    """
    if count < 2 * groups:
        return None
    rows = np.arange(count)
    without = np.array([statistic(rows[rows % groups != group]) for group in range(groups)])
    return math.sqrt((groups - 1) * without.var())


def ratio_of_sums(numerators: np.ndarray, denominators: np.ndarray) -> Estimate:
    """Sum over sum, such as nats over tokens, with the delta method's standard error over texts.

    Undefined for no values; infinite and without an error if a numerator is. There is no error for one text either.
    """
    if not len(numerators):
        return Estimate(None)
    value = float(numerators.sum() / denominators.sum())
    if math.isinf(value) or len(numerators) < 2:
        return Estimate(value)
    error = math.sqrt(np.square(numerators - value * denominators).sum()) / float(denominators.sum())
    return Estimate(value, error)


def mixed_ratio(
    numerators: np.ndarray, denominators: np.ndarray, tokens: np.ndarray, of: np.ndarray, weights: Sequence[float]
) -> Estimate:
    """Sum over sum in a mixture of sources with given shares of the tokens: sum_s w_s a_s / sum_s w_s b_s.

    a_s and b_s are a source's numerators and denominators per token. The standard error is the delta method's; the
    texts are independent draws with a fixed number from each source (stratified sampling).

    Args:
        numerators, denominators: of each text, such as its nats and its words: float [N].
        tokens: of each text, above 0: int [N].
        of: the source of each text: int [N].
        weights: of the sources. Sources without texts are left out, with their weights.

    Returns:
        undefined for no texts; infinite and without an error if a numerator is; without an error if a source has only
        one text.
    """
    members = [np.flatnonzero(of == source) for source in range(len(weights))]
    present = [(weight, rows) for weight, rows in zip(weights, members, strict=True) if len(rows)]
    if not present:
        return Estimate(None)
    shares = [weight / tokens[rows].sum() for weight, rows in present]
    above = sum(share * numerators[rows].sum() for share, (_, rows) in zip(shares, present, strict=True))
    below = sum(share * denominators[rows].sum() for share, (_, rows) in zip(shares, present, strict=True))
    value = float(above / below)
    if math.isinf(value) or any(len(rows) < 2 for _, rows in present):
        return Estimate(value)
    variance = 0.0
    for share, (_, rows) in zip(shares, present, strict=True):
        count = tokens[rows].sum()
        a, b = numerators[rows].sum() / count, denominators[rows].sum() / count
        residuals = numerators[rows] - a * tokens[rows] - value * (denominators[rows] - b * tokens[rows])
        variance += share**2 * float(np.square(residuals).sum())
    return Estimate(value, math.sqrt(variance) / float(below))


def sum_of_independent(first: Estimate, second: Estimate) -> Estimate:
    """The sum of figures of two independent samples; without an error if either has none."""
    assert first.value is not None
    assert second.value is not None
    value = first.value + second.value
    if first.error is None or second.error is None:
        return Estimate(value)
    return Estimate(value, math.hypot(first.error, second.error))


def exponential(estimate: Estimate) -> Estimate:
    """exp of a figure, with its error by the delta method; infinite if it overflows."""
    if estimate.value is None:
        return estimate
    value = math.exp(estimate.value) if estimate.value < 700 else math.inf
    error = None if estimate.error is None or math.isinf(value) else value * estimate.error
    return Estimate(value, error)
