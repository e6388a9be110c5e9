"""The class loss against NumPy in float64, and the two rewards that a discriminator's classes make possible."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptgan_jax.objectives.classification import class_accuracy, class_cross_entropy, matching_features, naming_label
from gptgan_jax.objectives.rewards import Judgement, constant, logit

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (6, 4))
LABEL = np.array([2, -1, 0, 3, -1, 1])


def judgement(**fields: object) -> Judgement:
    """Three texts of 2, 3 and 1 tokens, and two real ones."""
    mask = jnp.asarray([[1, 1, 0], [1, 1, 1], [1, 0, 0]], bool)
    base = Judgement(jnp.ones((3, 3)), mask, jnp.ones((2, 3)), jnp.ones((2, 3), bool))
    return base._replace(**fields)


def test_the_class_loss_is_the_mean_nats_of_the_labelled_rows_alone() -> None:
    nats = [np.log(np.exp(row).sum()) - row[label] for row, label in zip(LOGITS, LABEL, strict=True) if label >= 0]
    np.testing.assert_allclose(class_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABEL)), np.mean(nats), rtol=1e-6)


def test_rows_without_label_have_no_part_in_the_class_loss() -> None:
    gradient = jax.grad(class_cross_entropy)(jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABEL))
    assert not gradient[LABEL < 0].any()
    assert np.abs(gradient[LABEL >= 0]).min() > 1e-8
    nobody = jax.value_and_grad(class_cross_entropy)(jnp.asarray(LOGITS, jnp.float32), jnp.full(6, -1))
    assert nobody[0] == 0
    assert not nobody[1].any()


def test_the_class_accuracy_counts_labelled_rows() -> None:
    right = [row.argmax() == label for row, label in zip(LOGITS, LABEL, strict=True) if label >= 0]
    np.testing.assert_allclose(class_accuracy(jnp.asarray(LOGITS), jnp.asarray(LABEL)), np.mean(right), rtol=1e-6)
    assert class_accuracy(jnp.asarray(LOGITS), jnp.full(6, -1)) == 0


def test_the_feature_matching_reward_is_the_exact_gradient_of_the_squared_distance_in_expectation() -> None:
    """Over all pairs of four texts that a softmax draws: the score-function gradient against the distance's own."""
    features, real = RNG.normal(size=(4, 3)), RNG.normal(size=(5, 3))
    theta, weight = jnp.asarray(RNG.normal(size=4), jnp.float32), 0.7

    def distance(theta: jax.Array) -> jax.Array:
        return -weight * jnp.square(real.mean(axis=0) - jax.nn.softmax(theta) @ features).sum()

    reward = matching_features(logit, weight)
    nothing, one = jnp.zeros((2, 1)), jnp.ones((2, 1), bool)
    expected = np.zeros(4)
    probabilities = np.asarray(jax.nn.softmax(theta), np.float64)
    for pair in itertools.product(range(4), repeat=2):
        drawn = Judgement(nothing, one, jnp.zeros((5, 1)), jnp.ones((5, 1), bool))
        paid = reward(
            drawn._replace(fake_features=jnp.asarray(features[list(pair)]), real_features=jnp.asarray(real)), KEY
        )
        for text, one_paid in zip(pair, np.asarray(paid)[:, 0], strict=True):
            expected += probabilities[list(pair)].prod() * one_paid * (np.eye(4)[text] - probabilities) / 2
    np.testing.assert_allclose(expected, jax.grad(distance)(theta), rtol=1e-4, atol=1e-6)


def test_through_relaxed_texts_the_feature_matching_reward_pulls_each_feature_toward_the_real_mean() -> None:
    real = jnp.ones((2, 2))

    def paid(features: jax.Array) -> jax.Array:
        reward = matching_features(logit, 1.0)(judgement(fake_features=features, real_features=real), KEY)
        return reward.sum()

    gradient = jax.grad(paid)(jnp.zeros((3, 2)))
    np.testing.assert_allclose(gradient, 2 * np.ones((3, 2)), rtol=1e-6)


def test_a_text_is_paid_for_its_label_at_its_last_token_and_nothing_where_it_answers_none() -> None:
    classes = jnp.asarray([[1.0, 0.0], [0.0, 2.0], [5.0, 0.0]])
    label = jnp.asarray([0, 0, -1])
    paid = naming_label(constant(1.0), 0.5)(judgement(fake_classes=classes, fake_label=label), KEY)
    base = constant(1.0)(judgement(), KEY)
    logp = np.asarray(jax.nn.log_softmax(classes))
    more = np.zeros((3, 3))
    more[0, 1], more[1, 2] = 0.5 * logp[0, 0], 0.5 * logp[1, 0]
    np.testing.assert_allclose(paid - base, more, atol=1e-6)


@pytest.mark.parametrize("wrapped", [matching_features(logit, 1.0), naming_label(logit, 1.0)])
def test_without_classes_there_is_nothing_to_pay_by(wrapped) -> None:
    with pytest.raises(ValueError, match=r"needs a discriminator (with classes|that gives features)"):
        wrapped(judgement(), KEY)
