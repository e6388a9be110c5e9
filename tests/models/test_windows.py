"""A discriminator of windows: each is judged as a text of its own, and paid at its end."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import VOCABULARY, batch_of, random_params

from gptgan_jax import (
    Batch,
    CnnConfig,
    LstmConfig,
    PolicyGradient,
    TransformerDiscriminatorConfig,
    build_discriminator,
    build_generator,
    gan_from,
    in_windows,
    no_baseline,
    reinforce,
    rewards,
)
from gptgan_jax.algorithms.discriminator_update import counted
from gptgan_jax.algorithms.game import Game
from gptgan_jax.config.checking import config_from
from gptgan_jax.errors import UserError
from gptgan_jax.objectives.rewards import is_last
from gptgan_jax.runs.trained import build_networks

LENGTHS = (5, 2, 4, 1)
BATCH = batch_of(prompts=(2, 3, 1, 2), targets=LENGTHS, length=5)
NETWORKS: dict[str, Any] = {
    "cnn": CnnConfig(embedding=4, widths=(1, 2), filters=2),
    "transformer": TransformerDiscriminatorConfig(layers=1, width=4, heads=1, max_positions=8),
}


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_window_is_scored_as_a_text_of_its_own_after_the_prompt(kind: str) -> None:
    whole = build_discriminator(NETWORKS[kind], VOCABULARY)
    judge = in_windows(whole, 2)
    scorer = random_params(jax.eval_shape(whole.init, jax.random.key(0), BATCH), seed=1)
    found = judge.scores(scorer, BATCH)
    again = judge.judge(scorer, judge.embed(scorer, BATCH), BATCH)
    np.testing.assert_allclose(found.tokens, again.tokens, rtol=1e-5)
    for row, length in enumerate(LENGTHS):
        ends = []
        for start in range(0, length, 2):
            stop = min(start + 2, length)
            one = jax.tree.map(lambda x, row=row: x[row : row + 1], BATCH)
            one = one.replace(target=one.target[:, start:stop], target_mask=jnp.ones((1, stop - start), bool))
            alone = whole.scores(scorer, one).tokens[0]
            np.testing.assert_allclose(found.tokens[row, start:stop], alone, rtol=1e-4, atol=1e-6)
            ends.append(float(alone[-1]))
        assert float(found.sequence[row]) == pytest.approx(np.mean(ends), rel=1e-4, abs=1e-6)
        assert float(again.sequence[row]) == pytest.approx(np.mean(ends), rel=1e-4, abs=1e-6)
    assert np.abs(np.asarray(found.tokens - whole.scores(scorer, BATCH).tokens)[0, 2:]).max() > 1e-4


def test_what_counts_and_is_paid_are_the_ends_of_windows_and_of_texts() -> None:
    judge = in_windows(build_discriminator(NETWORKS["cnn"], VOCABULARY), 2)
    writer = build_generator(LstmConfig(embedding=4, hidden=4), VOCABULARY)
    expected = np.array([[0, 1, 0, 1, 1], [0, 1, 0, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 0]], bool)
    scorer = random_params(jax.eval_shape(judge.init, jax.random.key(0), BATCH), seed=1)
    values, mask = counted(Game(writer, judge), judge.scores(scorer, BATCH), BATCH.target_mask)
    np.testing.assert_array_equal(mask, expected)
    assert values.shape == mask.shape
    np.testing.assert_array_equal(is_last(mask).sum(axis=1), 1)
    np.testing.assert_array_equal(is_last(mask).argmax(axis=1), np.array(LENGTHS) - 1)

    plain = reinforce(baseline=no_baseline())

    def shown(state: Any, experience: Any) -> Any:
        advantages, state, _ = plain.advantages(state, experience)
        return advantages, state, {"paid": experience.rewards, "wrote": experience.sample.mask}

    estimator = PolicyGradient(plain.init, shown, plain.loss)
    options: dict[str, Any] = {"generator_optimizer": optax.sgd(0.1), "discriminator_optimizer": optax.sgd(0.1)}
    gan = gan_from(writer, judge, estimator=estimator, reward=rewards.softplus, **options)
    _, metrics = jax.jit(gan.adversarial_step)(gan.init(jax.random.key(0), BATCH), BATCH)
    wrote = np.asarray(metrics["wrote"])
    ends = wrote & (np.array([False, True, False, True, False]) | np.asarray(is_last(jnp.asarray(wrote))))
    np.testing.assert_array_equal(np.asarray(metrics["paid"]) > 0, ends)
    assert float(metrics["reward"]) == pytest.approx(np.asarray(metrics["paid"]).sum() / ends.sum(), rel=1e-5)


def test_a_text_without_tokens_has_the_score_of_its_prompt() -> None:
    whole = build_discriminator(NETWORKS["transformer"], VOCABULARY)
    scorer = random_params(jax.eval_shape(whole.init, jax.random.key(0), BATCH), seed=1)
    empty: Batch = BATCH.replace(target_mask=jnp.zeros_like(BATCH.target_mask))
    found, expected = (judge.scores(scorer, empty).sequence for judge in (in_windows(whole, 2), whole))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_window_has_a_token_or_more() -> None:
    with pytest.raises(UserError, match="window should be a whole number, at least 1"):
        in_windows(build_discriminator(NETWORKS["cnn"], VOCABULARY), 0)


def test_a_configuration_with_a_window_has_such_a_discriminator() -> None:
    config = config_from({"name": "x", "objective": {"window": 2}, "data": {"max_length": 5}})
    assert build_networks(config, VOCABULARY)[1].window == 2
    assert build_networks(config_from({"name": "x"}), VOCABULARY)[1].window == 0
