"""The generator's update by each family of estimators, against sums over all texts of a tiny vocabulary or by hand.

The generator is a table, the logits of the next token after each prefix: exact expectations are sums over 15 texts.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import as_arrays, assert_trees_close, assert_trees_differ, random_params, texts_of

from gptgan_jax import (
    Batch,
    CnnConfig,
    Demonstrations,
    Experience,
    Game,
    Gan,
    GanState,
    Generator,
    LstmConfig,
    MlpConfig,
    Player,
    PolicyGradient,
    Sample,
    TopK,
    TransformerDiscriminatorConfig,
    Vocabulary,
    build_discriminator,
    build_generator,
    cot,
    distill,
    feature_matching,
    gan_from,
    gumbel,
    no_baseline,
    ppo,
    reinforce,
    rewards,
    rollout,
    sample,
    spin,
    unconditional_batch,
)
from gptgan_jax.algorithms.generator_update import policy_update
from gptgan_jax.algorithms.texts import Drawn
from gptgan_jax.gradients.policy_gradients import surrogate
from gptgan_jax.objectives.rewards import Judgement

V, T = 3, 3
VOCABULARY = Vocabulary(size=V, pad_id=0, bos_id=0, eos_id=1)
TEXTS = list(texts_of(VOCABULARY, T))
TOKENS, MASK = as_arrays(TEXTS, T, VOCABULARY.pad_id)
RATE = 0.3


def table_generator() -> Generator:
    """Logits of the prefix of the target, plus logits of the prompt's last token."""
    nodes = sum(V**t for t in range(T))

    def following(node: jax.Array, token: jax.Array) -> jax.Array:
        return jnp.minimum(node * V + 1 + token, nodes - 1)  # after the last token it does not matter

    def nodes_of(target: jax.Array) -> jax.Array:
        found = [jnp.zeros(target.shape[0], jnp.int32)]
        for t in range(target.shape[1] - 1):
            found.append(following(found[-1], target[:, t]))
        return jnp.stack(found, axis=1)

    def init(key: jax.Array, batch: Batch) -> Any:
        return {"table": jax.random.normal(key, (nodes, V)), "prompt": jnp.zeros((V, V))}

    def logits(params: Any, batch: Batch, dropout_key: jax.Array | None = None) -> jax.Array:
        return params["table"][nodes_of(batch.target)] + params["prompt"][batch.prompt[:, -1]][:, None]

    def hidden(params: Any, batch: Batch) -> jax.Array:
        return jax.nn.one_hot(nodes_of(batch.target), nodes) + batch.prompt[:, -1:, None]

    def at(params: Any, node: jax.Array, prompt: jax.Array) -> tuple[jax.Array, Any]:
        return params["table"][node] + params["prompt"][prompt], (node, prompt)

    return Generator(
        VOCABULARY,
        init,
        logits,
        hidden,
        prefill=lambda params, prompt, mask, length: at(params, jnp.zeros_like(prompt[:, -1]), prompt[:, -1]),
        decode=lambda params, cache, tokens: at(params, following(cache[0], tokens), cache[1]),
        repeat=lambda cache, count: jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), cache),
        max_length=None,
        config=None,  # type: ignore[arg-type]
    )


GENERATOR = table_generator()
DISCRIMINATOR = build_discriminator(MlpConfig(embedding=3, hidden=4, layers=1), VOCABULARY)


def batch_of(rows: int, seed: int = 0) -> Batch:
    """Real texts drawn from all there are, answering prompts of one token that is not EOS."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(TEXTS), rows)
    prompt = jnp.asarray(rng.choice([0, 2], (rows, 1)), jnp.int32)
    return Batch(prompt, jnp.ones((rows, 1), bool), TOKENS[chosen], MASK[chosen], jnp.full(rows, -1, jnp.int32))


BATCH = batch_of(6)


def gan_of(**options: Any) -> Gan:
    sgd = {"generator_optimizer": optax.sgd(RATE), "discriminator_optimizer": optax.sgd(0.5)}
    return gan_from(GENERATOR, DISCRIMINATOR, **(sgd | options))


def state_of(gan: Gan, batch: Batch = BATCH, reference: bool = False, step: int = 0) -> GanState:
    """Random parameters; a reference of its own where one is asked for."""
    shapes = jax.eval_shape(gan.init, jax.random.key(0), batch)
    params = random_params(shapes.generator.params, seed=1), random_params(shapes.discriminator.params, seed=2)
    state = shapes.replace(
        step=jnp.int32(step),
        key=jax.random.key(3),
        generator=Player(params[0], None),
        discriminator=Player(params[1], None),
    )
    state = gan.begin(state, batch)
    return state.replace(reference=random_params(params[0], seed=7)) if reference else state


def stepped(gan: Gan, state: GanState, batch: Batch = BATCH) -> tuple[GanState, dict[str, jax.Array]]:
    return jax.jit(gan.adversarial_step)(state, batch)


def written_by_hand(state: GanState, batch: Batch = BATCH, temperature: float = 1.0, params: Any = None) -> Batch:
    """What the step writes, in place of the batch's targets."""
    key = jax.random.split(jax.random.fold_in(state.key, state.step), 4)[0]
    params = state.generator.params if params is None else params
    written = jax.jit(lambda p: sample(GENERATOR, p, key, batch.prompt, batch.prompt_mask, T, temperature))(params)
    return batch.replace(target=written.tokens, target_mask=written.mask)


def spy(samples: int = 1, rollouts: int = 0, seen: list[int] | None = None) -> PolicyGradient:
    """Gives all that an estimator gets out as metrics; the advantages are the rewards."""

    def advantages(state: None, experience: Experience) -> tuple[jax.Array, None, dict[str, jax.Array]]:
        if seen is not None:
            seen.append(experience.samples)
        text = experience.sample
        found = {"tokens": text.tokens, "mask": text.mask, "was": text.log_probs, "hidden": experience.hidden}
        return experience.rewards, None, found | {"rewards": experience.rewards}

    return PolicyGradient(lambda width: None, advantages, surrogate, samples, rollouts)


def log_probs_by_hand(params: Any, texts: Batch, temperature: float = 1.0) -> jax.Array:
    """float32 [R, T], whatever the mask."""
    log_probs = jax.nn.log_softmax(GENERATOR.logits(params, texts) / temperature)
    return jnp.take_along_axis(log_probs, texts.target[..., None], axis=-1)[..., 0]


def moved_by(gradient_of: Callable[[Any], jax.Array], params: Any) -> Any:
    """Parameters after one update by plain gradient descent."""
    return jax.tree.map(lambda p, g: p - RATE * g, params, jax.jit(jax.grad(gradient_of))(params))


# ---- KL


KINDS = ("exact", "low_variance", "reward")
EVERY = Batch(jnp.zeros((15, 1), jnp.int32), jnp.ones((15, 1), bool), TOKENS, MASK, jnp.full(15, -1, jnp.int32))


def divergence(kind: str, params: Any, reference: Any, temperature: float) -> jax.Array:
    """What each estimator stands for, summed over all texts; `frozen` are the chances of the prefixes."""
    tables = (jax.nn.log_softmax(GENERATOR.logits(x, EVERY) / temperature) for x in (params, reference))
    ours, theirs = tables
    chosen = jnp.where(MASK, log_probs_by_hand(params, EVERY, temperature), 0.0).sum(axis=1)
    other = jnp.where(MASK, log_probs_by_hand(reference, EVERY, temperature), 0.0).sum(axis=1)
    if kind == "reward":
        return (jnp.exp(chosen) * (chosen - other)).sum()
    frozen = jax.lax.stop_gradient(jnp.exp(chosen))
    if kind == "exact":
        per_token = (jnp.exp(ours) * (ours - theirs)).sum(axis=-1)
    else:
        per_token = (jnp.exp(theirs) * (theirs - ours)).sum(axis=-1)
    return (frozen * jnp.where(MASK, per_token, 0.0).sum(axis=1)).sum()


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", KINDS)
def test_the_expected_gradient_of_each_kl_estimator_is_that_of_the_divergence_it_stands_for(kind: Any) -> None:
    temperature, weight = 0.7, 0.3
    game = Game(
        GENERATOR, DISCRIMINATOR, reinforce(1.0, no_baseline()), kl_weight=weight, kl_estimator=kind,
        temperature=temperature, reward=lambda judgement, key: jnp.zeros_like(judgement.fake),
        generator_optimizer=optax.sgd(1.0),
    )  # fmt: skip
    state = state_of(gan_of(kl_weight=1.0), reference=True)
    params = state.generator.params

    def update(one: Batch) -> Any:
        one = jax.tree.map(lambda x: x[None], one)
        written = Sample(one.target, one.target_mask, jnp.full((1, T), jnp.nan))
        nothing = jnp.zeros((1, T))
        judgement = Judgement(nothing, one.target_mask, nothing, one.target_mask)
        state_d = state.replace(generator=Player(params, game.generator_optimizer.init(params)))
        player, _, metrics = policy_update(
            game, game.estimator, state_d, one, Drawn(written), judgement, jax.random.key(0)
        )  # type: ignore[arg-type]
        return jax.tree.map(lambda a, b: a - b, params, player.params), metrics

    gradients, metrics = jax.jit(jax.vmap(update))(EVERY)
    chances = jnp.exp(jnp.where(MASK, log_probs_by_hand(params, EVERY, temperature), 0.0).sum(axis=1))
    assert float(chances.sum()) == pytest.approx(1, abs=1e-5)
    expected = jax.tree.map(lambda g: jnp.tensordot(chances, g, 1), gradients)
    values = jax.jit(
        lambda p: {kind: jax.value_and_grad(divergence, 1)(kind, p, state.reference, temperature) for kind in KINDS}
    )(params)
    exact = values[kind][1]
    assert_trees_close(expected, jax.tree.map(lambda g: weight * g, exact), rtol=1e-4, atol=1e-6)
    assert float(optax.tree.norm(exact)) > 0.1
    for other in set(KINDS) - {kind}:  # the three are different things, so that the test tells them apart
        assert float(optax.tree.norm(jax.tree.map(lambda a, b: a - b, values[other][1], exact))) > 0.01
    if kind != "low_variance":  # the metric's mean is KL(generator || reference) over whole texts
        per_text = metrics["kl"] * MASK.sum(axis=1)
        assert float((chances * per_text).sum()) == pytest.approx(float(values["reward"][0]), rel=1e-4)
        assert float(values[kind][0]) > 0


@pytest.mark.parametrize("token", range(V))
def test_the_low_variance_kl_of_a_token_is_ratio_minus_1_minus_log_ratio_and_never_negative(token: int) -> None:
    game = Game(GENERATOR, DISCRIMINATOR, reinforce(), kl_weight=1.0, kl_estimator="low_variance")
    state = state_of(gan_of(kl_weight=1.0))
    start: Any = state.reference
    one = jnp.full((1, 1), token, jnp.int32)
    text = Batch(jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool), one, jnp.ones((1, 1), bool), jnp.zeros(1, int))
    zero = jnp.zeros((1, 1))

    def kl(seed: jax.Array) -> tuple[jax.Array, jax.Array]:
        tables = jax.random.normal(seed, (2, V)) * 2
        params, reference = ({**start, "table": start["table"].at[0].set(x)} for x in tables)
        now = state.replace(generator=Player(params, game.generator_optimizer.init(params)), reference=reference)
        written, judgement = Sample(one, text.target_mask, zero), Judgement(zero, zero == 0, zero, zero == 0)
        _, _, metrics = policy_update(game, game.estimator, now, text, Drawn(written), judgement, jax.random.key(0))  # type: ignore[arg-type]
        ratio = log_probs_by_hand(reference, text) - log_probs_by_hand(params, text)
        return metrics["kl"], (jnp.exp(ratio) - 1 - ratio)[0, 0]

    # The baseline of an estimator that has learned nothing is 0.
    state = state.replace(estimator=reinforce().init(1))
    found, expected = jax.jit(jax.vmap(kl))(jax.random.split(jax.random.key(1), 200))
    assert float(found.min()) >= 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-6)
    assert float(found.max()) > 1


def test_a_kl_in_the_reward_lowers_each_token_by_its_log_ratio_and_leaves_the_metric_of_the_reward() -> None:
    options: dict[str, Any] = {"estimator": spy(), "temperature": 0.7}
    plain, with_kl = gan_of(**options), gan_of(**options, kl_weight=0.4, kl_estimator="reward")
    state = state_of(with_kl, reference=True)
    _, before = stepped(plain, state.replace(reference=None))
    _, after = stepped(with_kl, state)
    texts = written_by_hand(state, temperature=0.7)
    ratio = log_probs_by_hand(state.generator.params, texts, 0.7) - log_probs_by_hand(state.reference, texts, 0.7)
    expected = np.where(texts.target_mask, before["rewards"] - 0.4 * ratio, 0.0)
    np.testing.assert_allclose(np.where(texts.target_mask, after["rewards"], 0.0), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(np.where(texts.target_mask, ratio, 0.0)).max() > 0.1
    assert float(after["reward"]) == pytest.approx(float(before["reward"]), abs=1e-6)


# ---- PPO: several updates of the same texts


def recorder(size: int) -> optax.GradientTransformation:
    """Keeps every gradient and never moves a parameter."""

    def init(params: Any) -> Any:
        return jnp.int32(0), jax.tree.map(lambda x: jnp.zeros((size, *x.shape)), params)

    def update(gradient: Any, state: Any, params: Any = None) -> Any:
        count, kept = state
        kept = jax.tree.map(lambda all, one: all.at[count].set(one), kept, gradient)
        return jax.tree.map(jnp.zeros_like, gradient), (count + 1, kept)

    return optax.GradientTransformation(init, update)


def recorded(estimator: PolicyGradient, **options: Any) -> tuple[int, list[Any]]:
    """The number of the generator's updates of a step, and their gradients by the table of logits."""
    gan = gan_of(estimator=estimator, generator_optimizer=recorder(8), **options)
    after, _ = stepped(gan, state_of(gan))
    count, kept = after.generator.opt_state
    return int(count), list(np.asarray(kept["table"])[: int(count)])


def test_each_pass_of_ppo_uses_every_text_once_in_an_order_of_its_own() -> None:
    count, parts = recorded(ppo(0.5, no_baseline(), epochs=2, minibatches=3))
    assert count == 6
    one, (whole,) = recorded(reinforce(0.5, no_baseline()))
    assert one == 1
    assert np.abs(whole).max() > 0.02
    for epoch in (parts[:3], parts[3:]):  # the mean over minibatches of equal size is that over all texts
        np.testing.assert_allclose(np.mean(epoch, axis=0), whole, rtol=1e-4, atol=1e-6)
        assert all(np.abs(part - whole).max() > 1e-3 for part in epoch)
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(parts[:3], parts[3:], strict=True))


def test_one_pass_of_ppo_over_one_minibatch_is_the_update_of_reinforce() -> None:
    options: dict[str, Any] = {"entropy_weight": 0.1, "temperature": 0.8}
    ours, theirs = (gan_of(estimator=x, **options) for x in (ppo(0.5, epochs=1), reinforce(0.5)))
    (a, metrics), (b, others) = (stepped(gan, state_of(gan)) for gan in (ours, theirs))
    assert_trees_close(a.generator, b.generator, rtol=1e-5, atol=1e-6)
    assert_trees_close(a.estimator, b.estimator)
    assert_trees_differ(a.generator.params, state_of(ours).generator.params)
    for name in ("gradient_norm", "entropy", "reward", "baseline"):
        assert float(metrics[name]) == pytest.approx(float(others[name]), rel=1e-4)


def test_a_second_pass_of_ppo_weighs_by_the_ratio_to_the_generator_before_the_step() -> None:
    gan = gan_of(estimator=ppo(1.0, no_baseline(), clip=0.05, epochs=2), reward=rewards.logit, temperature=0.8)
    state = state_of(gan)
    after, _ = stepped(gan, state)
    texts = written_by_hand(state, temperature=0.8)
    paid = np.where(texts.target_mask, DISCRIMINATOR.scores(state.discriminator.params, texts).tokens, 0.0)
    returns = jnp.asarray(np.cumsum(paid[:, ::-1], axis=1)[:, ::-1])
    was = log_probs_by_hand(state.generator.params, texts, 0.8)

    def loss(params: Any) -> jax.Array:
        ratio = jnp.exp(log_probs_by_hand(params, texts, 0.8) - was)
        worse = jnp.minimum(ratio * returns, jnp.clip(ratio, 0.95, 1.05) * returns)
        return -jnp.where(texts.target_mask, worse, 0.0).sum() / 6

    once = moved_by(loss, state.generator.params)
    assert_trees_close(after.generator.params, moved_by(loss, once), rtol=1e-4, atol=1e-5)
    assert_trees_differ(after.generator.params, once)


# ---- demonstrations


MANY = batch_of(1000, seed=5)
LESSON = Demonstrations(share=0.8, reward=7.5, steps=10)


def with_and_without_demonstrations(rollouts: int) -> tuple[Batch, GanState, tuple[Any, Any], tuple[Any, Any]]:
    """A batch, the state, and one step with and without demonstrations; two texts a prompt."""
    batch, options = batch_of(12, seed=4), {"estimator": spy(2, rollouts), "dense": not rollouts}
    ours, theirs = gan_of(**options, demonstrations=LESSON._replace(share=0.5)), gan_of(**options)
    state = state_of(ours, batch, step=40)
    return batch, state, stepped(ours, state, batch), stepped(theirs, state, batch)


@pytest.mark.thorough
@pytest.mark.cases(1)
@pytest.mark.parametrize("rollouts", [0, 1])
def test_a_demonstration_is_the_prompts_real_text_with_the_reward_at_its_last_token(rollouts: int) -> None:
    batch, state, (after, ours), (_, theirs) = with_and_without_demonstrations(rollouts)
    taken: Any = np.asarray(ours["rewards"] == 7.5).any(axis=1)
    assert 3 < taken.sum() < 21
    assert taken.mean() == pytest.approx(float(ours["demonstrations"]))
    real = jax.tree.map(lambda x: np.repeat(x, 2, axis=0), batch)
    sizes = real.target_mask.sum(axis=1)
    for row in range(24):
        if not taken[row]:
            for name in ("rewards", "tokens", "mask", "was"):
                np.testing.assert_array_equal(ours[name][row], theirs[name][row], err_msg=name)
            continue
        np.testing.assert_array_equal(ours["tokens"][row], real.target[row])
        np.testing.assert_array_equal(ours["mask"][row], real.target_mask[row])
        # With rollouts rewards are values: every token of the text is worth what is paid for it.
        expected = 7.5 * ((np.arange(T) == sizes[row] - 1) | bool(rollouts))
        np.testing.assert_array_equal(np.where(real.target_mask[row], ours["rewards"][row], 0), np.where(
            real.target_mask[row], expected, 0))  # fmt: skip
    # Its log-probabilities and the update are those of the texts as they are after the exchange.
    texts = real.replace(target=ours["tokens"], target_mask=ours["mask"])
    params = state.generator.params
    was = np.where(texts.target_mask, log_probs_by_hand(params, texts), 0.0)
    np.testing.assert_allclose(ours["was"], was, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ours["hidden"], GENERATOR.hidden(params, texts))

    def loss(params: Any) -> jax.Array:
        weighted = jnp.where(texts.target_mask, ours["rewards"] * log_probs_by_hand(params, texts), 0.0)
        return -weighted.sum() / 24

    assert_trees_close(after.generator.params, moved_by(loss, params), rtol=1e-4, atol=1e-5)
    # Metrics are of what the generator wrote.
    for name in ("reward", "length", "discriminator_accuracy"):
        assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=1e-6), name


def test_the_share_of_demonstrations_falls_linearly_to_0_from_the_beginning_of_the_phase() -> None:
    gan = gan_of(estimator=reinforce(), demonstrations=LESSON)
    step, state = jax.jit(gan.adversarial_step), state_of(gan, MANY, step=30)
    assert int(state.begun) == 30
    found = [float(step(state.replace(step=jnp.int32(30 + made)), MANY)[1]["demonstrations"]) for made in (0, 5, 9)]
    for share, expected in zip(found, (0.8, 0.4, 0.08), strict=True):
        assert share == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 1000))
    assert found[2] > 0
    for made in (10, 11, 500):
        assert float(step(state.replace(step=jnp.int32(30 + made)), MANY)[1]["demonstrations"]) == 0


def test_when_the_demonstrations_are_over_the_step_is_that_without_them() -> None:
    ours, theirs = gan_of(estimator=reinforce(), demonstrations=LESSON), gan_of(estimator=reinforce())
    state = state_of(ours)
    (a, metrics), (b, others) = (stepped(gan, state.replace(step=jnp.int32(10))) for gan in (ours, theirs))
    assert_trees_close(a, b, rtol=0, atol=0)
    assert set(metrics) - set(others) == {"demonstrations"}
    early, _ = stepped(ours, state)
    assert_trees_differ(early.generator.params, stepped(theirs, state)[0].generator.params)


# ---- several texts a prompt, and rollouts


def test_the_texts_of_a_prompt_are_neighbours_and_the_estimator_is_told_how_many_there_are() -> None:
    seen: list[int] = []
    gan = gan_of(estimator=spy(3, seen=seen), kl_weight=0.1)
    state = state_of(gan)
    start: Any = state.reference
    obedient = {"table": jnp.zeros_like(start["table"]), "prompt": 40 * jnp.eye(V)}  # repeats its prompt
    _, metrics = stepped(gan, state.replace(generator=state.generator.replace(params=obedient)))
    assert seen == [3]
    assert metrics["tokens"].shape == metrics["mask"].shape == metrics["rewards"].shape == (18, T)
    assert set(np.asarray(BATCH.prompt[:, 0]).tolist()) == {0, 2}
    np.testing.assert_array_equal(metrics["tokens"], np.repeat(np.tile(BATCH.prompt, (1, T)), 3, axis=0))
    np.testing.assert_allclose(metrics["was"], 0, atol=1e-5)
    _, metrics = stepped(gan, state)
    groups = np.asarray(metrics["tokens"]).reshape(6, 3, T)
    assert (groups != groups[:, :1]).any(axis=(1, 2)).all()  # written independently
    texts = jax.tree.map(lambda x: jnp.repeat(x, 3, axis=0), BATCH).replace(
        target=metrics["tokens"], target_mask=metrics["mask"]
    )
    expected = 2 * jax.nn.sigmoid(DISCRIMINATOR.scores(state.discriminator.params, texts).tokens) - 1
    np.testing.assert_allclose(
        np.where(metrics["mask"], metrics["rewards"], 0), np.where(metrics["mask"], expected, 0), rtol=1e-4, atol=1e-6
    )
    assert float(metrics["real_length"]) == pytest.approx(float(BATCH.target_mask.sum() / 6))
    assert float(metrics["length"]) == pytest.approx(float(metrics["mask"].sum() / 18))


@pytest.mark.thorough
def test_a_tokens_value_by_rollouts_is_the_expected_reward_of_the_texts_that_begin_so() -> None:
    count, temperature, relative = 2000, 0.7, rewards.relative(rewards.logit)
    gan = gan_of(estimator=spy(2, rollouts=count), dense=False, temperature=temperature, reward=relative)
    state = state_of(gan)
    params_d = jax.tree.map(lambda x: 3 * x, state.discriminator.params)
    state = state.replace(discriminator=state.discriminator.replace(params=params_d))
    _, metrics = stepped(gan, state)
    level = DISCRIMINATOR.scores(params_d, BATCH).sequence.mean()
    prompts = np.repeat(BATCH.prompt, 2, axis=0)
    tokens, mask = np.asarray(metrics["tokens"]), np.asarray(metrics["mask"])
    far = 0.0
    for row in range(12):
        every = EVERY.replace(prompt=jnp.full((15, 1), prompts[row, 0], jnp.int32))
        log_probs = np.where(MASK, log_probs_by_hand(state.generator.params, every, temperature), 0.0)
        values = np.asarray(DISCRIMINATOR.scores(params_d, every).sequence - level, float)
        size = mask[row].sum()
        for t in range(size):
            begin = [text[: t + 1] == tuple(tokens[row, : t + 1]) for text in TEXTS]
            chances = np.exp(log_probs.sum(axis=1)) * begin
            chances /= chances.sum()
            mean = (chances * values).sum()
            error = np.sqrt((chances * np.square(values - mean)).sum() / count)
            assert float(metrics["rewards"][row, t]) == pytest.approx(mean, abs=4 * error + 2e-5), (row, t)
            far = max(far, abs(values[begin].mean() - mean) if t < size - 1 else 0.0)
    assert far > 0.1  # not merely the mean over the texts
    paid = np.where(mask, metrics["rewards"], 0).sum() / mask.sum()
    assert float(metrics["reward"]) == pytest.approx(paid, rel=1e-4, abs=1e-6)


@pytest.mark.thorough
def test_rollouts_are_paid_alike_whether_what_they_share_is_read_once_or_again_each_time() -> None:
    judge = build_discriminator(CnnConfig(embedding=4, widths=(1, 2, 3), filters=5, dropout=0.0), VOCABULARY)
    sgd = {"generator_optimizer": optax.sgd(RATE), "discriminator_optimizer": optax.sgd(0.5)}
    options: dict[str, Any] = {"estimator": spy(2, rollouts=3), "dense": False, "reward": rewards.logit, **sgd}
    shapes = jax.eval_shape(judge.init, jax.random.key(0), BATCH)
    paid = []
    for discriminator in (judge, judge._replace(continuations=None)):
        gan = gan_from(GENERATOR, discriminator, **options)
        state = gan.init(jax.random.key(0), BATCH)
        player = Player(random_params(shapes, seed=2), state.discriminator.opt_state)
        paid.append(stepped(gan, state.replace(discriminator=player))[1]["rewards"])
    assert float(jnp.abs(paid[0]).max()) > 0.1
    np.testing.assert_allclose(paid[0], paid[1], rtol=1e-4, atol=1e-5)


# ---- pathwise


@pytest.mark.thorough
@pytest.mark.cases(1)
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("straight_through", [True, False])
def test_the_pathwise_gradient_is_that_of_the_judgement_of_relaxed_texts(dense: bool, straight_through: bool) -> None:
    estimator = gumbel(lambda step: 0.9 / (step + 1), straight_through)
    gan = gan_of(
        estimator=estimator, dense=dense, temperature=0.8, entropy_weight=0.2, kl_weight=0.1, reward=rewards.softplus
    )
    state = state_of(gan, reference=True).replace(estimator=jnp.int32(1))
    after, metrics = stepped(gan, state)
    texts = written_by_hand(state, temperature=0.8)
    mask = texts.target_mask
    key = jax.random.split(jax.random.split(jax.random.fold_in(state.key, state.step), 4)[2])[0]
    params_d = state.discriminator.params

    def rewards_of(params: Any) -> jax.Array:
        logits = GENERATOR.logits(params, texts) / 0.8
        weights = estimator.relax(jnp.int32(1), key, logits, texts.target)
        scores = DISCRIMINATOR.judge(params_d, DISCRIMINATOR.embed(params_d, texts, weights), texts)
        paid = jnp.logaddexp(0, scores.tokens if dense else scores.sequence[:, None])
        return jnp.where(mask, paid, 0.0) if dense else paid

    def loss(params: Any) -> jax.Array:
        log_probs = jax.nn.log_softmax(GENERATOR.logits(params, texts) / 0.8)
        reference = jax.nn.log_softmax(GENERATOR.logits(state.reference, texts) / 0.8)
        bonus = 0.2 * log_probs + 0.1 * (log_probs - reference)
        extra = jnp.where(mask, (jnp.exp(log_probs) * bonus).sum(axis=-1), 0.0).sum()
        return (extra - rewards_of(params).sum()) / 6

    assert_trees_close(after.generator.params, moved_by(loss, state.generator.params), rtol=1e-4, atol=1e-5)
    paid = rewards_of(state.generator.params)
    assert float(metrics["reward"]) == pytest.approx(float(paid.sum() / (mask.sum() if dense else 6)), rel=1e-4)
    assert float(jnp.abs(jax.grad(lambda p: rewards_of(p).sum())(state.generator.params)["table"]).max()) > 0.01
    assert float(metrics["relaxation_temperature"]) == pytest.approx(0.45)
    assert int(after.estimator) == 2


def test_features_of_relaxed_texts_are_brought_nearer_to_those_of_real_ones() -> None:
    estimator, h = gumbel(0.7, straight_through=False), 0.9
    gan = gan_of(estimator=estimator, dense=False, reward=rewards.mmd((h,)))
    state = state_of(gan)
    after, _ = stepped(gan, state)
    texts, scorer = written_by_hand(state), state.discriminator.params
    key = jax.random.split(jax.random.split(jax.random.fold_in(state.key, state.step), 4)[2])[0]
    real = DISCRIMINATOR.scores(scorer, BATCH).features
    assert real is not None

    def discrepancy(params: Any) -> jax.Array:
        weights = estimator.relax(jnp.int32(0), key, GENERATOR.logits(params, texts), texts.target)
        fake = DISCRIMINATOR.judge(scorer, DISCRIMINATOR.embed(scorer, texts, weights), texts).features
        assert fake is not None
        kernel = [jnp.exp(-jnp.square(fake[:, None] - y).sum(axis=-1) / (2 * h**2)) for y in (fake, real)]
        others = 1 - jnp.eye(len(fake))
        return (kernel[0] * others).sum() / others.sum() - 2 * kernel[1].mean()

    expected = moved_by(discrepancy, state.generator.params)
    assert_trees_close(after.generator.params, expected, rtol=1e-4, atol=1e-5)
    assert_trees_differ(state.generator.params, expected)


@pytest.mark.parametrize("reward", [rewards.constant(0.5), rewards.random], ids=["constant", "random"])
def test_a_control_gives_a_pathwise_generator_nothing_to_learn(reward: Any) -> None:
    gan = gan_of(estimator=gumbel(), reward=reward)
    before = state_of(gan)
    after, metrics = stepped(gan, before)
    assert_trees_close(after.generator, before.generator, rtol=0, atol=0)
    assert float(metrics["gradient_norm"]) == 0
    assert_trees_differ(after.discriminator.params, before.discriminator.params)


# ---- self-play


def test_self_play_prefers_real_text_to_the_references_and_has_no_discriminator() -> None:
    gan = gan_of(estimator=spin(scale=0.7, refresh_every=5), temperature=0.8)
    before = state_of(gan, reference=True).replace(estimator=jnp.int32(1))
    after, metrics = stepped(gan, before)
    texts = written_by_hand(before, temperature=0.8, params=before.reference)
    own = written_by_hand(before, temperature=0.8)
    assert (np.asarray(texts.target) != own.target).any()

    def margin(params: Any) -> jax.Array:
        def gain(batch: Batch) -> jax.Array:
            ratio = log_probs_by_hand(params, batch, 0.8) - log_probs_by_hand(before.reference, batch, 0.8)
            return jnp.where(batch.target_mask, ratio, 0.0).sum(axis=1)

        return gain(BATCH) - gain(texts)

    by_hand = moved_by(lambda params: jnp.log1p(jnp.exp(-0.7 * margin(params))).mean(), before.generator.params)
    assert_trees_close(after.generator.params, by_hand, rtol=1e-4, atol=1e-5)
    assert_trees_differ(after.generator.params, before.generator.params)
    assert float(metrics["margin"]) == pytest.approx(float(margin(before.generator.params).mean()), rel=1e-4)
    # The generator writes nothing, and the texts that were written are not called its own.
    assert float(metrics["reference_length"]) == pytest.approx(float(texts.target_mask.sum() / 6))
    assert "length" not in metrics
    assert_trees_close(after.discriminator, before.discriminator, rtol=0, atol=0)
    assert_trees_close(after.reference, before.reference, rtol=0, atol=0)
    assert int(after.step) == 1


def test_the_generator_becomes_its_own_reference_on_schedule() -> None:
    gan = gan_of(estimator=spin(refresh_every=2))
    step, state = jax.jit(gan.adversarial_step), state_of(gan, reference=True)
    for made in range(5):
        before = state
        state, metrics = step(state, BATCH)
        renewed = made % 2 == 0
        assert_trees_close(state.reference, before.generator.params if renewed else before.reference, rtol=0, atol=0)
        assert (abs(float(metrics["margin"])) < 1e-6) == renewed  # against itself, no preference yet
        assert_trees_differ(state.generator.params, before.generator.params)


# ---- feature matching


def last_nodes(params: Any, batch: Batch) -> jax.Array:
    """Two layers' states of the last token: parameters of where the text ends, and of its prompt; [B, 2, V]."""
    last = jnp.maximum(batch.target_mask.sum(axis=1) - 1, 0)
    ends = jnp.take_along_axis(GENERATOR.hidden(params, batch), last[:, None, None], axis=1)[:, 0]
    token = jnp.take_along_axis(batch.target, last[:, None], axis=1)[:, 0]
    return jnp.stack([ends @ params["table"], params["prompt"][token]], axis=1)


LAYERED = GENERATOR._replace(depths=last_nodes)


@pytest.mark.thorough
@pytest.mark.cases(1)
@pytest.mark.parametrize("control", [False, True])
def test_feature_matching_is_paid_by_the_frozen_generators_features_of_what_it_wrote(control: bool) -> None:
    estimator = feature_matching(3, depths=(0.5, 1.0), whitening="none", diversity=0.8)
    options: dict[str, Any] = {"dense": False, "temperature": 0.7, "likelihood_weight": 0.3}
    reward = rewards.constant(1.0) if control else rewards.logit
    gan = gan_from(
        LAYERED, DISCRIMINATOR, estimator=estimator, reward=reward, generator_optimizer=optax.sgd(RATE), **options
    )
    before = state_of(gan, reference=True)
    after, metrics = stepped(gan, before)
    rows = jax.tree.map(lambda x: jnp.repeat(x, 3, axis=0), BATCH.replace(packed=None))
    key = jax.random.split(jax.random.fold_in(before.key, before.step), 4)[0]
    written = sample(GENERATOR, before.generator.params, key, BATCH.prompt, BATCH.prompt_mask, T, 0.7, samples=3)
    texts = rows.replace(target=written.tokens, target_mask=written.mask)

    def vectors(batch: Batch) -> np.ndarray:
        found = np.asarray(last_nodes(before.reference, batch))
        return (found / np.linalg.norm(found, axis=-1, keepdims=True)).reshape(len(found), -1) / 2**0.5

    ours, real = vectors(texts).reshape(6, 3, -1), vectors(BATCH)
    alignment, alike = np.einsum("bnw,bw->bn", ours, real), np.einsum("bnw,bmw->bnm", ours, ours)
    advantages = np.zeros((6, 3))
    for j in range(3):
        i, k = (other for other in range(3) if other != j)
        own = 2 * alignment[:, j] - 0.8 * (alike[:, j, i] + alike[:, j, k])
        advantages[:, j] = own - (alignment[:, i] + alignment[:, k] - 2 * 0.8 * alike[:, i, k])
    weights = jnp.asarray(0 * advantages if control else advantages).reshape(-1, 1)

    def loss(params: Any) -> jax.Array:
        surrogate = -jnp.where(texts.target_mask, weights * log_probs_by_hand(params, texts, 0.7), 0.0).sum() / 18
        real = jnp.where(BATCH.target_mask, log_probs_by_hand(params, BATCH), 0.0).sum() / 6
        return surrogate - 0.3 * real

    assert_trees_close(after.generator.params, moved_by(loss, before.generator.params), rtol=1e-4, atol=1e-5)
    assert_trees_close(after.discriminator, before.discriminator, rtol=0, atol=0)
    assert_trees_close(after.reference, before.reference, rtol=0, atol=0)
    assert float(metrics["alignment"]) == pytest.approx(alignment.mean(), rel=1e-4)
    assert float(metrics["similarity"]) == pytest.approx((alike.sum() - 18 * 1.0) / 36, rel=1e-4)
    assert np.abs(advantages).max() > 0.1
    assert int(after.step) == 1


def test_stretches_that_begin_after_a_text_has_ended_teach_nothing() -> None:
    estimator = feature_matching(3, whitening="none", length=1, context=1)
    options: dict[str, Any] = {"dense": False, "reward": rewards.logit, "generator_optimizer": optax.sgd(RATE)}
    gan = gan_from(LAYERED, DISCRIMINATOR, estimator=estimator, **options)
    short = BATCH.replace(
        target=jnp.full_like(BATCH.target, 1), target_mask=jnp.broadcast_to(jnp.arange(T) < 1, BATCH.target.shape)
    )
    before = state_of(gan, short, reference=True)
    after, metrics = stepped(gan, before, short)
    assert_trees_close(after.generator.params, before.generator.params, rtol=0, atol=0)
    assert float(metrics["alignment"]) == 0
    after, metrics = stepped(gan, before, BATCH)
    assert_trees_differ(after.generator.params, before.generator.params)


# ---- distillation


def states(params: Any, batch: Batch) -> jax.Array:
    """Which prefix it is, and which prompt: float [B, T, nodes + V]."""
    nodes = GENERATOR.hidden(params, batch) - batch.prompt[:, -1:, None]
    prompts = jax.nn.one_hot(batch.prompt[:, -1:], V) * jnp.ones((1, batch.target.shape[1], 1))
    return jnp.concatenate([nodes, prompts], axis=2)


LINEAR = GENERATOR._replace(
    hidden=states, output=lambda params: (jnp.concatenate([params["table"], params["prompt"]]), None)
)


def distilling(on_policy: float, beta: float = 0.4, **options: Any) -> tuple[Gan, GanState]:
    sgd = {"generator_optimizer": optax.sgd(RATE)}
    gan = gan_from(LINEAR, DISCRIMINATOR, estimator=distill(beta, on_policy), teacher=LINEAR, **(sgd | options))
    state = state_of(gan)
    return gan, state.replace(teacher=random_params(state.generator.params, seed=7))


def from_teacher(params: Any, teacher: Any, texts: Batch, beta: float, temperature: float) -> jax.Array:
    """The divergence at each prefix, by its definition: float [R, T]."""
    q, p = (jax.nn.softmax(GENERATOR.logits(x, texts) / temperature) for x in (params, teacher))
    mixed = beta * p + (1 - beta) * q
    found = beta * p * jnp.log(p / mixed) + (1 - beta) * q * jnp.log(q / mixed)
    return found.sum(axis=-1)


@pytest.mark.cases(1)
@pytest.mark.parametrize("on_policy", [1.0, 0.5, 0.0])
def test_distillation_learns_the_teachers_distributions_on_own_or_real_texts(on_policy: float) -> None:
    gan, before = distilling(on_policy, temperature=0.7, likelihood_weight=0.3)
    after, metrics = stepped(gan, before)
    written, key = written_by_hand(before, temperature=0.7), jax.random.fold_in(before.key, before.step)
    own = jax.random.uniform(jax.random.split(key, 4)[2], (6,)) < on_policy
    assert (np.asarray(written.target) != BATCH.target).any()
    assert on_policy != 0.5 or 0 < own.sum() < 6
    texts = BATCH.replace(
        target=jnp.where(own[:, None], written.target, BATCH.target),
        target_mask=jnp.where(own[:, None], written.target_mask, BATCH.target_mask),
    )

    def loss(params: Any) -> jax.Array:
        found = jnp.where(texts.target_mask, from_teacher(params, before.teacher, texts, 0.4, 0.7), 0.0).sum() / 6
        return found - 0.3 * jnp.where(BATCH.target_mask, log_probs_by_hand(params, BATCH), 0.0).sum() / 6

    assert_trees_close(after.generator.params, moved_by(loss, before.generator.params), rtol=1e-4, atol=1e-5)
    assert_trees_close(after.discriminator, before.discriminator, rtol=0, atol=0)
    assert_trees_close(after.teacher, before.teacher, rtol=0, atol=0)
    assert ("length" in metrics) == (on_policy > 0)
    per_token = jnp.where(texts.target_mask, from_teacher(before.generator.params, before.teacher, texts, 0.4, 0.7), 0)
    assert float(metrics["divergence"]) == pytest.approx(float(per_token.sum() / texts.target_mask.sum()), rel=1e-4)


def test_on_own_texts_the_expected_gradient_is_that_of_the_divergence_at_prefixes_held_fixed() -> None:
    gan, state = distilling(on_policy=0.0)  # the texts are given, every one, and weighed by the student's chances
    params = state.generator.params

    def update(one: Batch) -> Any:
        after, _ = gan.adversarial_step(state, jax.tree.map(lambda x: x[None], one))
        return jax.tree.map(lambda a, b: (a - b) / RATE, params, after.generator.params)

    gradients = jax.jit(jax.vmap(update))(EVERY)
    chances = jnp.exp(jnp.where(MASK, log_probs_by_hand(params, EVERY), 0.0).sum(axis=1))
    expected = jax.tree.map(lambda g: jnp.tensordot(chances, g, 1), gradients)

    def total(params: Any, fixed: bool) -> jax.Array:
        of_texts = jnp.exp(jnp.where(MASK, log_probs_by_hand(params, EVERY), 0.0).sum(axis=1))
        of_texts = jax.lax.stop_gradient(of_texts) if fixed else of_texts
        return (of_texts * jnp.where(MASK, from_teacher(params, state.teacher, EVERY, 0.4, 1.0), 0.0).sum(axis=1)).sum()

    fixed, exact = (jax.grad(total)(params, fixed) for fixed in (True, False))
    assert_trees_close(expected, fixed, rtol=1e-4, atol=1e-5)
    assert_trees_differ(fixed, exact)  # the bias is real


def test_a_teachers_tokens_in_the_batch_are_as_good_as_the_teacher_at_real_texts() -> None:
    gan, before = distilling(0.0, likelihood_weight=0.3)
    wanted, figures = stepped(gan, before)
    log_ps = jax.nn.log_softmax(GENERATOR.logits(before.teacher, BATCH))
    log_probs, ids = jax.lax.top_k(log_ps, V)
    away = gan_from(
        LINEAR, DISCRIMINATOR, estimator=distill(0.4, 0.0), likelihood_weight=0.3, generator_optimizer=optax.sgd(RATE)
    )
    found, same = stepped(away, before.replace(teacher=None), BATCH.replace(top_k=TopK(ids, log_probs)))
    assert_trees_close(found.generator.params, wanted.generator.params, rtol=1e-4, atol=1e-6)
    assert float(same["divergence"]) == pytest.approx(float(figures["divergence"]), rel=1e-4)
    few = BATCH.replace(top_k=TopK(ids[..., :1], log_probs[..., :1]))
    assert float(stepped(away, before.replace(teacher=None), few)[1]["divergence"]) < float(figures["divergence"])


def test_distillation_without_its_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="probabilities at temperature 1"):
        gan_from(LINEAR, DISCRIMINATOR, estimator=distill(on_policy=0.0), temperature=0.5)
    with pytest.raises(ValueError, match="the generator's output layer"):
        gan_from(GENERATOR, DISCRIMINATOR, estimator=distill(on_policy=0.0))
    gan = gan_from(LINEAR, DISCRIMINATOR, estimator=distill(on_policy=0.0))
    with pytest.raises(ValueError, match="top_k is None, and the estimator distils without a teacher"):
        gan.adversarial_step(gan.init(jax.random.key(0), BATCH), BATCH)
    with pytest.raises(TypeError, match="distillation needs teacher, a Generator"):
        gan_from(LINEAR, DISCRIMINATOR, estimator=distill())
    with pytest.raises(ValueError, match="reads both networks' output layers"):
        gan_from(GENERATOR, DISCRIMINATOR, estimator=distill(), teacher=LINEAR)
    other = LINEAR._replace(vocabulary=Vocabulary(9))
    with pytest.raises(ValueError, match="the teacher's vocabulary has 9 ids, the generator's 3"):
        gan_from(LINEAR, DISCRIMINATOR, estimator=distill(), teacher=other)
    gan, state = distilling(1.0)
    with pytest.raises(ValueError, match="the state has no teacher, for distillation; give it"):
        gan.adversarial_step(state.replace(teacher=None), BATCH)


# ---- likelihood beside it


@pytest.mark.cases(1)
@pytest.mark.parametrize("estimator", [reinforce(), gumbel()], ids=["policy_gradient", "pathwise"])
def test_real_texts_likelihood_is_an_addition_to_the_loss(estimator: Any) -> None:
    plain, with_it = gan_of(estimator=estimator), gan_of(estimator=estimator, likelihood_weight=0.3)
    before = state_of(plain)
    without, _ = stepped(plain, before)
    found, metrics = stepped(with_it, before)

    def nats(params: Any) -> jax.Array:
        return -jnp.where(BATCH.target_mask, log_probs_by_hand(params, BATCH), 0.0).sum()

    pull = jax.grad(nats)(before.generator.params)
    expected = jax.tree.map(lambda p, g: p - RATE * 0.3 * g / 6, without.generator.params, pull)
    assert_trees_close(found.generator.params, expected, rtol=1e-4, atol=1e-5)
    tokens = float(BATCH.target_mask.sum())
    assert float(metrics["real_nats"]) == pytest.approx(float(nats(before.generator.params)) / tokens, rel=1e-5)


# ---- what does not go together


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"estimator": rollout(2)}, "whole texts"),
        ({"estimator": gumbel(), "demonstrations": LESSON}, "demonstrations"),
        ({"estimator": spin(), "demonstrations": LESSON}, "demonstrations"),
        ({"estimator": gumbel(), "kl_weight": 0.1, "kl_estimator": "reward"}, "kl_estimator"),
        ({"estimator": spin(), "kl_weight": 0.1}, "self-play"),
        ({"estimator": spin(), "entropy_weight": 0.1}, "self-play"),
        ({"estimator": spin(), "likelihood_weight": 0.1}, "self-play"),
        ({"replay_size": 4, "replay_share": 0.0}, "replay_share"),
        ({"replay_size": 4, "replay_share": 1.0}, "replay_share"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gan_of(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"estimator": rollout(2), "dense": False},
        {"demonstrations": LESSON},
        {"kl_weight": 0.1, "kl_estimator": "reward"},
        {"estimator": gumbel(), "kl_weight": 0.1, "kl_estimator": "low_variance", "entropy_weight": 0.1},
        {"estimator": gumbel(), "kl_estimator": "reward"},
        {"replay_size": 4},
        {"replay_share": 1.0},
    ],
)
def test_parts_that_go_together_are_not(options: dict[str, Any]) -> None:
    gan_of(**options)


def test_an_option_that_the_game_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="relative_reward"):
        gan_of(relative_reward=True)


@functools.cache
def _needs(estimator: Any, kl_weight: float) -> bool:
    return Game(GENERATOR, DISCRIMINATOR, estimator, kl_weight=kl_weight).needs_reference


def test_a_reference_is_carried_for_a_kl_and_for_self_play_alone() -> None:
    assert not _needs(reinforce(), 0.0)
    assert not _needs(gumbel(), 0.0)
    assert _needs(reinforce(), 0.1)
    assert _needs(spin(), 0.0)
    assert Game(LAYERED, DISCRIMINATOR, feature_matching()).needs_reference


# ---- a generator that rules tokens out


def without_token(generator: Generator, token: int, value: float) -> Generator:
    """The generator with this logit for one token, wherever it stands."""

    def ruled(logits: jax.Array) -> jax.Array:
        return logits.at[..., token].set(value)

    def prefill(params: Any, prompt: jax.Array, prompt_mask: jax.Array, length: int) -> Any:
        logits, cache = generator.prefill(params, prompt, prompt_mask, length)
        return ruled(logits), cache

    def decode(params: Any, cache: Any, tokens: jax.Array) -> Any:
        logits, cache = generator.decode(params, cache, tokens)
        return ruled(logits), cache

    def logits(params: Any, batch: Batch, dropout_key: jax.Array | None = None) -> jax.Array:
        return ruled(generator.logits(params, batch, dropout_key))

    return generator._replace(logits=logits, prefill=prefill, decode=decode, branch=None, weighted_nats=None)


@pytest.mark.parametrize("name", ["policy_gradient", "relaxed", "mediated"])
def test_a_logit_of_minus_infinity_is_that_of_a_token_without_probability(name: str) -> None:
    """As with a large negative logit instead: neither the entropy nor the divergences are NaN."""
    vocabulary = Vocabulary(5)
    base = build_generator(LstmConfig(embedding=4, hidden=4), vocabulary)
    judge = build_discriminator(TransformerDiscriminatorConfig(layers=1, width=4, heads=1), vocabulary)
    estimator: Any = {"policy_gradient": reinforce(), "relaxed": gumbel(0.7), "mediated": cot(future=True)}[name]
    batch = unconditional_batch(jnp.array([[3, 3, 2], [3, 2, 0]]), vocabulary)
    ends = []
    for value in (-jnp.inf, -1e9):
        optimizers = {"generator_optimizer": optax.sgd(0.1), "discriminator_optimizer": optax.sgd(0.1)}
        generator = without_token(base, 4, value)
        gan = gan_from(generator, judge, estimator=estimator, kl_weight=0.5, entropy_weight=0.3, **optimizers)
        state = gan.init(jax.random.key(0), batch)
        moved = jax.tree.map(lambda x: 1.5 * x, state.reference)
        ends.append(jax.jit(gan.adversarial_step)(state.replace(reference=moved), batch))
    (found, metrics), (expected, wanted) = ends
    assert_trees_close((found.generator.params, metrics), (expected.generator.params, wanted))
    assert np.isfinite([*metrics.values()]).all()
    assert metrics["kl"] > 0
    assert metrics["entropy"] > 0
