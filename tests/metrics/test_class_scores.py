"""Accuracy, macro-F1, nats and calibration against figures worked out another way."""

import collections
import math

import jax
import numpy as np
import pytest
from helpers import VOCABULARY, batch_of, random_params

from gptgan_jax import LinearConfig, build_discriminator
from gptgan_jax.metrics.class_scores import (
    Told,
    classes_told_by,
    expected_calibration_error,
    macro_f1,
    reliability_bins,
)

RNG = np.random.default_rng(0)


def f1_by_counting(predicted: list[int], labels: list[int]) -> float:
    """The harmonic mean of precision and recall, class by class, from a table of pairs."""
    pairs = collections.Counter(zip(predicted, labels, strict=True))
    scores = []
    for one in sorted(set(predicted) | set(labels)):
        told = sum(n for (p, _), n in pairs.items() if p == one)
        true = sum(n for (_, y), n in pairs.items() if y == one)
        precision = pairs[one, one] / told if told else 0.0
        recall = pairs[one, one] / true if true else 0.0
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return sum(scores) / len(scores)


@pytest.mark.parametrize("classes", [2, 5, 50])
def test_macro_f1_is_the_mean_harmonic_mean_of_precision_and_recall(classes: int) -> None:
    predicted, labels = RNG.integers(0, classes, (2, 60))
    assert macro_f1(predicted, labels) == pytest.approx(f1_by_counting(predicted.tolist(), labels.tolist()))
    assert macro_f1(labels, labels) == 1


def test_the_calibration_error_of_a_case_worked_by_hand() -> None:
    """Ten texts at confidence 0.9 of which six are right, and ten at 0.6 of which six are."""
    confidence = np.repeat([0.9, 0.6], 10)
    right = np.tile(np.arange(10) < 6, 2)
    bins = reliability_bins(confidence, right, 10)
    assert [(one.count, round(one.confidence, 6), one.accuracy) for one in bins] == [(10, 0.6, 0.6), (10, 0.9, 0.6)]
    assert expected_calibration_error(bins) == pytest.approx((10 * 0.0 + 10 * 0.3) / 20)


def test_probabilities_that_are_right_have_little_calibration_error_and_sharpened_ones_much() -> None:
    truth = RNG.dirichlet([1, 1, 1], 4000)
    labels = np.array([RNG.choice(3, p=p) for p in truth])
    honest = Told(np.log(truth), labels)
    sharp = truth**4 / (truth**4).sum(axis=1, keepdims=True)
    assert honest.calibration_error() < 0.04
    assert Told(np.log(sharp), labels).calibration_error() > 0.15


def test_the_first_and_last_confidence_have_a_bin() -> None:
    bins = reliability_bins(np.array([0.0, 1.0]), np.array([False, True]))
    assert [one.count for one in bins] == [1, 1]


def test_figures_are_of_the_labelled_texts() -> None:
    log_probs = np.log([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])
    told = Told(log_probs, np.array([0, -1, 1])).labelled()
    assert len(told) == 2
    assert told.accuracy().value == 0.5
    assert told.nats().value == pytest.approx(-(math.log(0.7) + math.log(0.4)) / 2)
    assert told.classes.tolist() == [0, 0]


def test_padding_rows_are_left_out_and_the_order_stays() -> None:
    discriminator = build_discriminator(LinearConfig(embedding=4), VOCABULARY, 3)
    batch = batch_of()
    params = random_params(jax.eval_shape(discriminator.init, jax.random.key(0), batch))
    empty = batch.replace(target_mask=batch.target_mask.at[1].set(False), label=np.array([2, -1, 0]))
    told = classes_told_by(discriminator)(params, [empty, batch])
    logits = np.asarray(discriminator.scores(params, batch).classes, np.float64)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(told.log_probs, np.concatenate([expected[[0, 2]], expected]), rtol=1e-5)
    assert told.labels.tolist() == [2, 0, -1, -1, -1]
