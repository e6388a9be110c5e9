"""A discriminator that scores by surprisal: against the generator of the same weights, and what it is paid by."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from estimators.enumeration import (
    MASK,
    ROW,
    STATES,
    TEXTS,
    TOKENS,
    T,
    V,
    exact_gradient,
    expected_gradient,
    softmax,
    totals,
)
from helpers import VOCABULARY, batch_of, random_params

from gptgan_jax import (
    Player,
    TransformerConfig,
    TransformerDiscriminatorConfig,
    build_discriminator,
    build_generator,
    gan_from,
    no_baseline,
    reinforce,
    rewards,
    wasserstein,
)
from gptgan_jax.config.files import load_config
from gptgan_jax.training.phases import game_of

PRESET = Path(__file__).parents[2] / "configs" / "dpgan.yaml"
SIZES = {"layers": 1, "width": 8, "heads": 2, "max_positions": 16}
BATCH = batch_of(prompts=(2, 3, 1, 2), targets=(4, 2, 3, 1))
JUDGE = build_discriminator(TransformerDiscriminatorConfig(**SIZES, surprisal=2.2), VOCABULARY)
WRITER = build_generator(TransformerConfig(**SIZES), VOCABULARY)


def test_the_score_is_what_the_generator_of_the_same_weights_gives_up_for_the_token() -> None:
    scorer = random_params(jax.eval_shape(JUDGE.init, jax.random.key(0), BATCH), seed=1)
    assert list(scorer) == ["trunk"]  # no head
    scores = JUDGE.scores(scorer, BATCH)
    logits = np.asarray(WRITER.logits(scorer, BATCH), np.float64)
    nats = -np.log(np.take_along_axis(softmax(logits), np.asarray(BATCH.target)[..., None], axis=-1))[..., 0]
    mask = np.asarray(BATCH.target_mask)
    assert (nats[mask] > 2.2).any()
    assert (nats[mask] < 2.2).any()
    expected = np.minimum(nats, 2.2)
    np.testing.assert_allclose(np.asarray(scores.tokens)[mask], expected[mask], rtol=1e-5)
    means = [row[on].mean() for row, on in zip(expected, mask, strict=True)]
    np.testing.assert_allclose(scores.sequence, means, rtol=1e-5)
    assert scores.features is None


def test_what_it_can_not_say_is_refused() -> None:
    scorer = random_params(jax.eval_shape(JUDGE.init, jax.random.key(0), BATCH), seed=1)
    with pytest.raises(ValueError, match="embeddings don't tell"):
        JUDGE.judge(scorer, JUDGE.embed(scorer, BATCH), BATCH)
    with pytest.raises(ValueError, match="no head for classes"):
        build_discriminator(TransformerDiscriminatorConfig(**SIZES, surprisal=2.0), VOCABULARY, classes=3)


@pytest.mark.thorough
def test_it_learns_to_find_generated_text_likely_and_real_text_surprising() -> None:
    gan = gan_from(
        WRITER,
        build_discriminator(TransformerDiscriminatorConfig(**SIZES, surprisal=50.0), VOCABULARY),
        pair_loss=wasserstein,
        reward=rewards.formula("s * mean"),
        generator_optimizer=optax.sgd(0.0),
        discriminator_optimizer=optax.sgd(0.05),
    )
    state = gan.init(jax.random.key(0), BATCH)
    state = state.replace(
        discriminator=Player(random_params(state.discriminator.params, seed=2), state.discriminator.opt_state)
    )
    step = jax.jit(gan.discriminator_step)
    losses = []
    for _ in range(12):
        state, metrics = step(state, BATCH)
        losses.append(float(metrics["discriminator_loss"]))
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.1
    _, metrics = jax.jit(gan.adversarial_step)(state, BATCH)
    assert np.isfinite(float(metrics["reward"]))


OTHER = np.random.default_rng(7).normal(0, 1, (len(ROW), V))
SURPRISAL = -np.log(softmax(OTHER))[STATES[..., None], TOKENS[..., None]][..., 0]
SURPRISAL = np.where(MASK, SURPRISAL, 0.0)


def by_formula(text: str) -> np.ndarray:
    judgement = rewards.Judgement(jnp.asarray(SURPRISAL), jnp.asarray(MASK), jnp.zeros((1, T)), jnp.ones((1, T), bool))
    paid = np.asarray(rewards.formula(text)(judgement, jax.random.key(0)), np.float64)
    return np.where(MASK, paid, 1e3)


def test_paid_the_surprisal_alone_the_expected_gradient_is_exact_and_by_dpgans_product_it_is_not() -> None:
    """What a token adds to the pay of those before it, through the mean, no return credits it with."""
    with jax.enable_x64(True):
        estimator = reinforce(baseline=no_baseline())
        alone, product = by_formula("s"), by_formula("s * mean")
        np.testing.assert_allclose(
            expected_gradient(estimator, alone), exact_gradient(SURPRISAL.sum(axis=1)), atol=1e-6
        )
        means = SURPRISAL.sum(axis=1, keepdims=True) / MASK.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(totals(product), (SURPRISAL * means).sum(axis=1), rtol=1e-6)
        found = expected_gradient(estimator, product)
    bias = found - exact_gradient(totals(product))
    assert np.abs(bias).max() > 1e-2
    first = [row for prefix, row in ROW.items() if prefix == ()]
    np.testing.assert_allclose(bias[first], 0, atol=1e-6)  # the first token has none before it
    assert len(TEXTS) == len(SURPRISAL)


def test_the_preset_pays_dull_text_least_and_novel_text_most() -> None:
    """Dull text is likely to the judge in every token, novel text is not; real text is in between."""
    config = load_config(PRESET, [])
    nats = jnp.array([[1.0] * 4, [3.0] * 4, [6.0] * 4])
    mask = jnp.ones((3, 4), bool)
    game = game_of(config, "adversarial", WRITER, JUDGE)
    paid = game.pay(rewards.Judgement(nats, mask, jnp.full((2, 4), 3.0), mask[:2]), jax.random.key(0))
    np.testing.assert_allclose(paid, nats**2, rtol=1e-6)  # the product of a token's surprisal and its text's
