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
    Discriminator,
    LstmConfig,
    PolicyGradient,
    Scores,
    TransformerDiscriminatorConfig,
    Vocabulary,
    build_discriminator,
    build_generator,
    gan_from,
    in_windows,
    no_baseline,
    reinforce,
    rewards,
)
from gptgan_jax.algorithms.discriminator_update import counted, judgement_of
from gptgan_jax.algorithms.game import Game
from gptgan_jax.config.checking import config_from
from gptgan_jax.errors import UserError
from gptgan_jax.objectives.discrimination import PairLossName, build_pair_loss
from gptgan_jax.objectives.rewards import is_last
from gptgan_jax.objectives.windows import at_ends
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


def test_the_next_token_is_predicted_from_the_prompt_and_the_window_alone() -> None:
    """By a network that is as long as these, as for the scores; the text is longer."""
    short = TransformerDiscriminatorConfig(layers=1, width=4, heads=1, max_positions=BATCH.prompt.shape[1] + 2)
    whole = build_discriminator(short, VOCABULARY)
    judge = in_windows(whole, 2)
    scorer = random_params(jax.eval_shape(whole.init, jax.random.key(0), BATCH), seed=1)
    assert judge.next_logits is not None
    assert whole.next_logits is not None
    found = judge.next_logits(scorer, BATCH)
    assert found.shape == (*BATCH.target.shape, VOCABULARY.size)
    for start in range(0, 5, 2):
        part = slice(start, min(start + 2, 5))
        window = BATCH.replace(target=BATCH.target[:, part], target_mask=BATCH.target_mask[:, part])
        alone, inside = whole.next_logits(scorer, window), np.asarray(window.target_mask)
        np.testing.assert_allclose(np.asarray(found[:, part])[inside], np.asarray(alone)[inside], rtol=1e-4, atol=1e-6)
    writer = build_generator(LstmConfig(embedding=4, hidden=4), VOCABULARY)
    gan = gan_from(writer, judge, next_token_weight=1.0)
    state = jax.eval_shape(lambda key: gan.init(key, BATCH), jax.random.key(0))
    assert "discriminator_next_token_loss" in jax.eval_shape(gan.discriminator_step, state, BATCH)[1]
    assert in_windows(build_discriminator(NETWORKS["cnn"], VOCABULARY), 2).next_logits is None


def test_what_counts_and_is_paid_are_the_ends_of_windows_and_of_texts() -> None:
    judge = in_windows(build_discriminator(NETWORKS["cnn"], VOCABULARY), 2)
    writer = build_generator(LstmConfig(embedding=4, hidden=4), VOCABULARY)
    expected = np.array([[0, 1, 0, 1, 1], [0, 1, 0, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 0]], bool)
    windows = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]], bool)
    scorer = random_params(jax.eval_shape(judge.init, jax.random.key(0), BATCH), seed=1)
    scores = judge.scores(scorer, BATCH)
    values, mask = counted(Game(writer, judge), scores, BATCH.target_mask)
    np.testing.assert_array_equal(mask, windows)
    np.testing.assert_array_equal(values[windows], scores.tokens[expected])
    np.testing.assert_array_equal(at_ends(values, BATCH.target_mask, 2), np.where(expected, scores.tokens, 0))

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


@pytest.mark.parametrize("name", ["relativistic", "relativistic_tie"])
def test_a_window_is_compared_with_the_same_window_of_other_texts_wherever_both_end(name: PairLossName) -> None:
    """The second window of a text of three tokens and that of one of four, whose ends are at two positions."""
    judge = in_windows(build_discriminator(NETWORKS["transformer"], VOCABULARY), 2)
    writer = build_generator(LstmConfig(embedding=4, hidden=4), VOCABULARY)
    lengths = (3, 4, 3, 4)
    real, fake = (batch_of((2, 3, 1, 2), lengths[step:] + lengths[:step], 4, seed=step) for step in (0, 1))
    scorer = random_params(jax.eval_shape(judge.init, jax.random.key(0), real), seed=1)
    pays = rewards.relative(rewards.logit)
    game = Game(writer, judge, pair_loss=build_pair_loss(name), reward=pays)
    of_both = judge.scores(scorer, real), judge.scores(scorer, fake)
    judgement = judgement_of(game, of_both[0], real, of_both[1], fake)
    rows = np.arange(4)
    values = [
        np.stack([x.tokens[:, 1], np.asarray(x.tokens)[rows, np.array(ends) - 1]], axis=1)
        for x, ends in zip(of_both, (lengths, lengths[1:] + lengths[:1]), strict=True)
    ]
    expected = game.pair_loss(values[0], jnp.ones((4, 2), bool), values[1], jnp.ones((4, 2), bool))
    found = game.pair_loss(judgement.real, judgement.real_mask, judgement.fake, judgement.fake_mask)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        game.pay(judgement, jax.random.key(0)), values[1] - values[0].mean(axis=0), rtol=1e-4, atol=1e-6
    )


@pytest.mark.cases(1)
@pytest.mark.parametrize("penalty", ["r1_weight", "r2_weight", "gradient_penalty_weight"])
def test_a_penalty_is_on_the_slope_of_the_scores_that_count(penalty: str) -> None:
    """A score that only tells how far a window has got: it is flat at every token that does not end one."""
    whole = build_discriminator(NETWORKS["cnn"], VOCABULARY)

    def judge_of(weight: float) -> Discriminator:
        def judge(params: Any, embeddings: Any, batch: Batch, dropout_key: Any = None) -> Scores:
            x = embeddings[:, batch.prompt.shape[1] :].sum(axis=-1)
            tokens = x * jnp.where(jnp.arange(x.shape[1]) == x.shape[1] - 1, 1.0, weight)
            found: Scores = whole.judge(params, embeddings, batch, dropout_key)
            return found.replace(tokens=tokens, sequence=tokens[:, -1])

        return in_windows(whole._replace(judge=judge), 2)

    def penalty_of(weight: float) -> float:
        batch = batch_of((2, 1), (4, 4), 4)
        options: dict[str, Any] = {penalty: 1.0, "generator_optimizer": optax.sgd(0.1)}
        writer = build_generator(LstmConfig(embedding=4, hidden=4), Vocabulary(7, eos_id=None))
        gan = gan_from(writer, judge_of(weight), discriminator_optimizer=optax.sgd(0.1), **options)
        _, metrics = gan.discriminator_step(gan.init(jax.random.key(0), batch), batch)
        return float(metrics["discriminator_loss"])

    assert penalty_of(0.0) == pytest.approx(penalty_of(3.0), rel=1e-6)


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
