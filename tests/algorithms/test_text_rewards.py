"""Text rewards in the step: the expected gradient is that of what the functions pay, and each choice does its work."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from algorithms.test_generator_update import (
    BATCH,
    DISCRIMINATOR,
    EVERY,
    GENERATOR,
    MASK,
    TOKENS,
    T,
    gan_of,
    log_probs_by_hand,
    spy,
    state_of,
    stepped,
    written_by_hand,
)
from helpers import assert_trees_close, assert_trees_differ

from gptgan_jax import (
    Batch,
    Demonstrations,
    Game,
    Player,
    PolicyGradient,
    Sample,
    TextReward,
    grpo,
    gumbel,
    host_reward,
    linear_schedule,
    no_baseline,
    reinforce,
    rloo,
    rollout,
    spin,
)
from gptgan_jax.algorithms.generator_update import policy_update
from gptgan_jax.algorithms.texts import Drawn
from gptgan_jax.errors import UserError
from gptgan_jax.objectives.rewards import Judgement, is_last

POWERS = jnp.array([1, 7, 11])


def of_text(written: Sample, batch: Batch) -> jax.Array:
    """Any number of a text, [R]."""
    return jnp.sin(1.0 + jnp.where(written.mask, (written.tokens + 1) * POWERS, 0).sum(axis=1))


def of_tokens(written: Sample, batch: Batch) -> jax.Array:
    """Any number of the text up to each token, [R, T]; 1000 where nobody may look."""
    so_far = jnp.cumsum((written.tokens + 1) * POWERS, axis=1)
    return jnp.where(written.mask, jnp.cos(so_far.astype(jnp.float32)), 1e3)


def zero(judgement: Judgement, key: jax.Array) -> jax.Array:
    return jnp.zeros_like(judgement.fake)


# ---- the gradient


@pytest.mark.cases(1)
@pytest.mark.parametrize("values", [False, True], ids=["rewards", "values"])
def test_the_expected_gradient_is_that_of_the_expected_pay(values: bool) -> None:
    """Summed over all texts, of REINFORCE and of an estimator that credits each token with its own value alone."""
    estimator = rollout(1, no_baseline()) if values else reinforce(1.0, no_baseline())
    game = Game(
        GENERATOR, DISCRIMINATOR, estimator, dense=not values, discriminator_reward_weight=0.0,
        text_rewards=(TextReward("text", of_text, 0.7), TextReward("tokens", of_tokens, -0.3),
                      TextReward("measured", of_text, 0.0)),
        generator_optimizer=optax.sgd(1.0),
    )  # fmt: skip
    game.check()
    state = state_of(gan_of())
    params = state.generator.params

    def update(one: Batch) -> Any:
        one = jax.tree.map(lambda x: x[None], one)
        written = Sample(one.target, one.target_mask, jnp.full((1, T), jnp.nan))
        found = tuple(reward.measured(written, one) for reward in game.text_rewards)
        scores = jnp.ones((1, 1 if values else T))
        there = jnp.ones(scores.shape, bool)
        now = state.replace(generator=Player(params, game.generator_optimizer.init(params)))
        assert isinstance(estimator, PolicyGradient)
        judgement = Judgement(scores, there, scores, there)
        player, _, metrics = policy_update(game, estimator, now, one, Drawn(written, found), judgement, state.key)
        return jax.tree.map(lambda a, b: b - a, params, player.params), metrics

    moved, metrics = jax.jit(jax.vmap(update))(EVERY)
    every = Sample(TOKENS, MASK, jnp.zeros(MASK.shape))
    tokens = jnp.where(MASK, of_tokens(every, EVERY), 0.0).sum(axis=1)
    total = 0.7 * of_text(every, EVERY) - 0.3 * tokens

    def expected_pay(params: Any) -> jax.Array:
        return (jnp.exp(jnp.where(MASK, log_probs_by_hand(params, EVERY), 0.0).sum(axis=1)) * total).sum()

    chances = jnp.exp(jnp.where(MASK, log_probs_by_hand(params, EVERY), 0.0).sum(axis=1))
    exact = jax.grad(expected_pay)(params)
    assert float(optax.tree.norm(exact)) > 0.1
    assert_trees_close(jax.tree.map(lambda g: jnp.tensordot(chances, g, 1), moved), exact, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["reward/text"], of_text(every, EVERY), rtol=1e-5)
    np.testing.assert_allclose(metrics["reward/tokens"], tokens, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["reward/measured"], of_text(every, EVERY), rtol=1e-5)


# ---- what is paid where


def paid(**options: Any) -> tuple[np.ndarray, dict[str, Any], Batch]:
    """The rewards of a step's texts, its metrics and the texts."""
    gan = gan_of(**{"estimator": spy(), **options})
    state = state_of(gan)
    _, metrics = stepped(gan, state)
    return np.asarray(metrics["rewards"]), metrics, written_by_hand(state)


@pytest.mark.cases(1)
@pytest.mark.parametrize("dense", [False, True])
def test_a_text_is_paid_at_its_last_token_beside_the_discriminator(dense: bool) -> None:
    before, alone, texts = paid(dense=dense)
    after, both, _ = paid(dense=dense, text_rewards=[TextReward("text", of_text, 0.5)])
    mask, written = np.asarray(texts.target_mask), Sample(texts.target, texts.target_mask, texts.target)
    expected = before + 0.5 * np.asarray(of_text(written, texts))[:, None] * np.asarray(is_last(texts.target_mask))
    np.testing.assert_allclose(after[mask], expected[mask], rtol=1e-5, atol=1e-6)
    assert both["reward"] == alone["reward"]  # is the discriminator's, whatever else is paid
    assert float(both["reward/text"]) == pytest.approx(float(of_text(written, texts).mean()), rel=1e-5)


def test_a_reward_without_weight_changes_nothing_but_is_measured() -> None:
    plain, watched = gan_of(), gan_of(text_rewards=[TextReward("text", of_text, 0.0)])
    one, metrics = stepped(plain, state_of(plain))
    other, more = stepped(watched, state_of(watched))
    assert_trees_close(one.generator.params, other.generator.params, rtol=0, atol=0)
    assert more.keys() - metrics.keys() == {"reward/text"}


def test_without_the_discriminators_weight_its_scores_do_not_matter() -> None:
    options: dict[str, Any] = {"text_rewards": [TextReward("text", of_text)], "discriminator_reward_weight": 0.0}
    one, other = gan_of(**options), gan_of(**options, reward=zero)
    assert_trees_close(*(stepped(gan, state_of(gan))[0].generator.params for gan in (one, other)), rtol=0, atol=0)
    with_it = gan_of(text_rewards=options["text_rewards"])
    assert_trees_differ(
        stepped(with_it, state_of(with_it))[0].generator.params, stepped(one, state_of(one))[0].generator.params
    )


def test_the_weight_follows_its_schedule_from_the_first_step_of_the_phase() -> None:
    reward = TextReward(
        "one", lambda written, batch: jnp.ones(written.mask.shape[0]), 2.0, linear_schedule(1.0, 0.5, 4)
    )
    gan = gan_of(estimator=spy(), text_rewards=[reward], discriminator_reward_weight=0.0)
    state = state_of(gan, step=7)
    found = []
    for _ in range(6):
        state, metrics = stepped(gan, state)
        found.append(float(metrics["rewards"][0].max()))
    assert found == pytest.approx([2.0, 1.75, 1.5, 1.25, 1.0, 1.0])


def test_a_demonstration_is_paid_its_own_reward_and_nothing_else() -> None:
    rewards, metrics, _ = paid(
        text_rewards=[TextReward("text", of_text, 5.0)], demonstrations=Demonstrations(0.999, 3.0, 10**6), dense=False
    )
    assert float(metrics["demonstrations"]) == 1.0
    np.testing.assert_allclose(rewards, 3.0 * np.asarray(is_last(BATCH.target_mask)), rtol=1e-6)


def test_the_prompt_and_the_real_text_of_a_row_are_those_that_it_answers() -> None:
    """With several texts a prompt."""

    def alike(written: Sample, batch: Batch) -> jax.Array:
        assert batch.prompt.shape[0] == written.mask.shape[0] == 3 * BATCH.prompt.shape[0]
        return batch.prompt[:, 0] + 10.0 * (batch.target * batch.target_mask).sum(axis=1)

    _, metrics, _ = paid(estimator=spy(samples=3), text_rewards=[TextReward("row", alike)])
    expected = BATCH.prompt[:, 0] + 10.0 * (BATCH.target * BATCH.target_mask).sum(axis=1)
    assert float(metrics["reward/row"]) == pytest.approx(float(expected.mean()))
    assert float(metrics["groups_without_signal"]) == 1.0


# ---- groups that are drawn again


def test_groups_without_signal_are_drawn_again_and_the_others_stay() -> None:
    options: dict[str, Any] = {"estimator": spy(samples=2), "dense": False}
    coarse = TextReward("first", lambda written, batch: (written.tokens[:, 0] == 2).astype(jnp.float32))
    once, often = (gan_of(**options, text_rewards=[coarse], resample_groups=count) for count in (0, 20))
    state = state_of(once)
    (_, before), (_, after) = stepped(once, state), stepped(often, state)
    first, last = (np.asarray(metrics["tokens"]).reshape(-1, 2, T) for metrics in (before, after))
    dull = (first[:, 0, 0] == 2) == (first[:, 1, 0] == 2)
    assert 0 < dull.sum() < len(dull)
    assert before["groups_without_signal"] == pytest.approx(dull.mean())
    assert after["groups_without_signal"] == 0
    assert 1 <= after["drawn_again"] < 20
    np.testing.assert_array_equal(first[~dull], last[~dull])
    # What is scored and learned is what was drawn last.
    pays = (last[:, :, 0] == 2).mean()
    assert after["reward/first"] == pytest.approx(pays) == 0.5


def test_to_draw_again_is_bounded() -> None:
    always = TextReward("same", lambda written, batch: jnp.ones(written.mask.shape[0]))
    gan = gan_of(estimator=spy(samples=2), text_rewards=[always], resample_groups=3)
    _, metrics = stepped(gan, state_of(gan))
    assert metrics["drawn_again"] == 3
    assert metrics["groups_without_signal"] == 1


# ---- host functions


def spelt(ids: list[int]) -> str:
    return "".join("abc"[i] for i in ids)


def test_a_function_of_strings_gives_the_step_of_the_same_function_in_jax() -> None:
    def counted(texts: list[str], letter: str) -> list[float]:
        return [text.count(letter) / 2 for text in texts]

    def in_jax(written: Sample, batch: Batch) -> jax.Array:
        return ((written.tokens == 2) & written.mask).sum(axis=1) / 2

    options: dict[str, Any] = {"estimator": grpo(2, minibatches=2), "dense": False, "reward_scaling": "group"}
    host = host_reward(counted, spelt, options={"letter": "c"})
    one, other = (gan_of(**options, text_rewards=[TextReward("c", function)]) for function in (in_jax, host))
    assert_trees_close(stepped(one, state_of(one))[0], stepped(other, state_of(other))[0], rtol=1e-6, atol=1e-7)


def test_a_function_that_fails_in_the_functional_api_names_the_text() -> None:
    def failing(texts: list[str]) -> list[float]:
        return [1 / (len(text) - len(text)) for text in texts]

    gan = gan_of(text_rewards=[TextReward("failing", host_reward(failing, spelt))])
    with pytest.raises(Exception, match=r"reward failing failed at the text '[abc]+': ZeroDivisionError"):
        jax.block_until_ready(stepped(gan, state_of(gan)))


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"estimator": gumbel()}, "differentiates the discriminator"),
        ({"estimator": spin()}, "leave text_rewards out"),
        ({"estimator": rloo(2), "text_rewards": [], "resample_groups": 1}, "resample_groups looks at what they pay"),
        ({"resample_groups": 1}, "writes one: use several samples"),
        ({"text_rewards": [], "discriminator_reward_weight": 0.0}, "set discriminator_reward_weight to 1"),
        ({"text_rewards": [], "reward_scaling": "group"}, "set it to none"),
        ({"reward_scaling": "sum"}, "reward_scaling should be one of none, group, batch"),
        (
            {"text_rewards": [TextReward("a", of_text), TextReward("a", of_text)]},
            "there is a duplicate name among a, a",
        ),
        ({"text_rewards": [TextReward("a", of_text, float("nan"))]}, "the weight of reward a should be a finite"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        gan_of(**{"text_rewards": [TextReward("text", of_text)], **options})


def test_a_function_of_another_shape_is_refused() -> None:
    gan = gan_of(text_rewards=[TextReward("wrong", lambda written, batch: jnp.ones(3))])
    with pytest.raises(ValueError, match=r"reward wrong has the shape \[3\]"):
        stepped(gan, state_of(gan))
    gan = gan_of(text_rewards=[TextReward("whole", lambda written, batch: written.mask.sum(axis=1))])
    with pytest.raises(TypeError, match="reward whole is int32"):
        stepped(gan, state_of(gan))
