"""Figures with their uncertainty."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error over texts; None where it has none or its value is undefined."""

    value: float | None
    error: float | None = None


def mean_of(values: Sequence[float] | np.ndarray) -> Estimate:
    """The mean and its standard error; undefined for no values."""
    values = np.asarray(values, np.float64)
    if not len(values):
        return Estimate(None)
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return Estimate(float(values.mean()), error)


def ratio_of_sums(numerators: np.ndarray, denominators: np.ndarray) -> Estimate:
    """Sum over sum, such as nats over tokens, with the delta method's standard error over texts.

    Undefined for no values.
    """
    if not len(numerators):
        return Estimate(None)
    value = float(numerators.sum() / denominators.sum())
    error = math.sqrt(np.square(numerators - value * denominators).sum()) / float(denominators.sum())
    return Estimate(value, error)
