"""The discriminator's update: penalties, earlier texts and several texts a prompt, each against one made by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import VOCABULARY, assert_trees_close, assert_trees_differ, batch_of, random_params, rows

from gptgan_jax import (
    Batch,
    CnnConfig,
    Discriminator,
    Gan,
    GanState,
    Generator,
    MlpConfig,
    Player,
    Scores,
    TransformerDiscriminatorConfig,
    build_discriminator,
    gan_from,
    moving_average,
    no_baseline,
    reinforce,
    relativistic,
    relativistic_tie,
    rewards,
    sample,
)
from gptgan_jax.algorithms.mixing import empty_replay, remember
from gptgan_jax.algorithms.texts import repeated_bigrams
from gptgan_jax.metrics.ngrams import repetition
from gptgan_jax.types import Replay

BATCH = batch_of(prompts=(2, 3, 1, 2, 3, 1), targets=(4, 2, 3, 4, 1, 4))
T, RATE = 4, 0.5


def test_repetition_is_the_share_of_2_grams_that_a_text_has_said_before() -> None:
    rng = np.random.default_rng(0)
    tokens, lengths = rng.integers(0, 3, (200, 9)), rng.integers(1, 10, 200)
    mask = np.arange(9) < lengths[:, None]
    tokens = np.where(mask, tokens, rng.integers(0, 3, tokens.shape))  # what stands behind an end does not count
    found = np.asarray(repeated_bigrams(jnp.asarray(tokens, jnp.int32), jnp.asarray(mask)))
    texts = [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]
    expected = [repetition([text], 2).value or 0.0 for text in texts]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert 0.1 < found.mean() < 0.3
    # Ids of a vocabulary whose square no 32-bit number holds; and texts too short for a 2-gram.
    large = jnp.array([[150_000, 149_999, 150_000, 149_999], [1, 150_000, 2, 150_000]])
    assert repeated_bigrams(large, jnp.ones((2, 4), bool)).tolist() == pytest.approx([1 / 3, 0])
    assert repeated_bigrams(large[:, :1], jnp.ones((2, 1), bool)).tolist() == [0, 0]


def table_generator() -> Generator:
    """The next token's logits by the last token."""

    def last(batch: Batch) -> jax.Array:
        return jnp.concatenate([batch.prompt[:, -1:], batch.target[:, :-1]], axis=1)

    return Generator(
        VOCABULARY,
        init=lambda key, batch: {"table": jax.random.normal(key, (VOCABULARY.size, VOCABULARY.size))},
        logits=lambda params, batch, dropout_key=None: params["table"][last(batch)],
        hidden=lambda params, batch: jax.nn.one_hot(last(batch), VOCABULARY.size),
        prefill=lambda params, prompt, mask, length: (params["table"][prompt[:, -1]], None),
        decode=lambda params, cache, tokens: (params["table"][tokens], None),
        repeat=lambda cache, count: None,
        max_length=None,
        config=None,  # type: ignore[arg-type]
    )


GENERATOR = table_generator()


def smooth_discriminator() -> Discriminator:
    """Scores by tanh of the mean embedding so far: its gradient by an embedding depends on the embedding.

    That of a network of ReLUs does not, almost everywhere.
    """
    size = VOCABULARY.size

    def init(key: jax.Array, batch: Batch) -> Any:
        return {"table": jnp.zeros((size, 3)), "hidden": jnp.zeros((3, 4)), "out": jnp.zeros(4)}

    def embed(params: Any, batch: Batch, weights: jax.Array | None = None) -> jax.Array:
        return params["table"][jnp.concatenate([batch.prompt, batch.target], axis=1)]

    def judge(params: Any, embeddings: jax.Array, batch: Batch, dropout_key: jax.Array | None = None) -> Scores:
        counted = jnp.concatenate([batch.prompt_mask, batch.target_mask], axis=1).astype(jnp.float32)[..., None]
        mean = jnp.cumsum(embeddings * counted, axis=1) / jnp.maximum(jnp.cumsum(counted, axis=1), 1)
        tokens = (jnp.tanh(mean @ params["hidden"]) @ params["out"])[:, batch.prompt.shape[1] :]
        last = batch.target_mask.sum(axis=1, keepdims=True) - 1
        return Scores(3 * tokens, 3 * jnp.take_along_axis(tokens, last, axis=1)[:, 0])

    def scores(params: Any, batch: Batch, dropout_key: jax.Array | None = None) -> Scores:
        return judge(params, embed(params, batch), batch)

    return Discriminator(init, scores, embed, judge, config=None)  # type: ignore[arg-type]


SMOOTH = smooth_discriminator()
DISCRIMINATOR = build_discriminator(MlpConfig(embedding=3, hidden=4, layers=1), VOCABULARY)


def gan_of(discriminator: Discriminator = DISCRIMINATOR, **options: Any) -> Gan:
    sgd = {"generator_optimizer": optax.sgd(0.1), "discriminator_optimizer": optax.sgd(RATE)}
    return gan_from(GENERATOR, discriminator, **(sgd | options))


def state_of(gan: Gan, batch: Batch = BATCH, step: int = 0) -> GanState:
    shapes = jax.eval_shape(gan.init, jax.random.key(0), batch)
    state = shapes.replace(
        step=jnp.int32(step),
        key=jax.random.key(3),
        generator=Player(random_params(shapes.generator.params, seed=1), None),
        discriminator=Player(random_params(shapes.discriminator.params, seed=2), None),
    )
    return gan.begin(state, batch)


def stepped(gan: Gan, state: GanState, batch: Batch = BATCH, name: str = "discriminator_step") -> tuple[Any, Any]:
    return jax.jit(getattr(gan, name))(state, batch)


def keys_by_hand(state: GanState) -> tuple[jax.Array, jax.Array]:
    """Of the writing and of the judging in a discriminator's step."""
    key_sample, key_judge = jax.random.split(jax.random.fold_in(state.key, state.step))
    return key_sample, key_judge


def answers_by_hand(key: jax.Array, params: Any, batch: Batch, samples: int = 1) -> Batch:
    """What the generator writes, in place of the targets of the batch with every row `samples` times."""
    batch = rows(batch, np.repeat(np.arange(len(batch.target)), samples))
    written = jax.jit(lambda p: sample(GENERATOR, p, key, batch.prompt, batch.prompt_mask, T))(params)
    return batch.replace(target=written.tokens, target_mask=written.mask)


def moved_by(loss: Any, params: Any) -> Any:
    return jax.tree.map(lambda p, g: p - RATE * g, params, jax.jit(jax.grad(loss))(params))


def non_saturating_by_hand(
    params: Any, real: Batch, fake: Batch, dense: bool, judge: Discriminator = DISCRIMINATOR
) -> jax.Array:
    a, b = (judge.scores(params, x) for x in (real, fake))
    if not dense:
        return jnp.logaddexp(0, -a.sequence).mean() + jnp.logaddexp(0, b.sequence).mean()
    of_real = jnp.where(real.target_mask, jnp.logaddexp(0, -a.tokens), 0.0).sum() / real.target_mask.sum()
    return of_real + jnp.where(fake.target_mask, jnp.logaddexp(0, b.tokens), 0.0).sum() / fake.target_mask.sum()


# ---- penalties


def steepness(params: Any, texts: Batch, embedded: jax.Array, dense: bool) -> jax.Array:
    """Squared length of each text's gradient of its own score, one text after another."""

    def score(x: jax.Array, one: Batch) -> jax.Array:
        one = jax.tree.map(lambda x: x[None], one)
        found = SMOOTH.judge(params, x[None], one)
        mask = one.target_mask
        return jnp.where(mask, found.tokens, 0.0).sum() / mask.sum() if dense else found.sequence[0]

    return jnp.square(jax.vmap(jax.grad(score))(embedded, texts)).sum(axis=(1, 2))


@pytest.mark.thorough
@pytest.mark.cases(1)
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("kind", ["r1", "r2", "gradient_penalty"])
def test_a_penalty_adds_its_own_gradient_to_the_discriminators(kind: str, dense: bool) -> None:
    samples, weight = 2, 1.7
    estimator = reinforce(1.0, no_baseline())._replace(samples=samples)
    options: dict[str, Any] = {f"{kind}_weight": weight}
    gan = gan_of(SMOOTH, estimator=estimator, dense=dense, **options)
    state = state_of(gan)
    key_sample, key_judge = keys_by_hand(state)
    fake = answers_by_hand(key_sample, state.generator.params, BATCH, samples)
    first = rows(fake, slice(None, None, samples))
    share = jax.random.uniform(jax.random.split(key_judge, 3)[2], (6, 1, 1))

    def penalty(params: Any) -> jax.Array:
        if kind == "gradient_penalty":
            a, b = (
                SMOOTH.embed(params, one) * jnp.concatenate([one.prompt_mask, one.target_mask], axis=1)[..., None]
                for one in (BATCH, first)
            )
            either = BATCH.replace(target_mask=BATCH.target_mask | first.target_mask)
            squared = steepness(params, either, share * a + (1 - share) * b, dense)
            return jnp.square(jnp.sqrt(squared + 1e-12) - 1).mean()
        texts = BATCH if kind == "r1" else fake
        return steepness(params, texts, SMOOTH.embed(params, texts), dense).mean() / 2

    def loss(params: Any) -> jax.Array:
        return non_saturating_by_hand(params, BATCH, fake, dense, SMOOTH) + weight * penalty(params)

    after, metrics = stepped(gan, state)
    params = state.discriminator.params
    assert_trees_close(after.discriminator.params, moved_by(loss, params), rtol=1e-4, atol=1e-5)
    assert float(metrics["discriminator_loss"]) == pytest.approx(float(jax.jit(loss)(params)), rel=1e-4)
    alone = moved_by(lambda p: non_saturating_by_hand(p, BATCH, fake, dense, SMOOTH), params)
    assert_trees_differ(alone, after.discriminator.params)


# ---- the auxiliary objective


@pytest.mark.thorough
def test_the_discriminators_own_next_token_loss_on_real_text_is_added() -> None:
    """By the weight, to what its gradient is of; its loss as recorded is without it."""
    sizes: dict[str, Any] = {"layers": 1, "width": 4, "heads": 1, "max_positions": 16}
    judge = build_discriminator(TransformerDiscriminatorConfig(**sizes), VOCABULARY)
    weight = 0.7
    gan = gan_of(judge, next_token_weight=weight, dense=False)
    state = state_of(gan)
    fake = answers_by_hand(keys_by_hand(state)[0], state.generator.params, BATCH)

    def next_token_loss(params: Any) -> jax.Array:
        assert judge.next_logits is not None
        log_probs = jax.nn.log_softmax(judge.next_logits(params, BATCH))
        chosen = jnp.take_along_axis(log_probs, BATCH.target[..., None], axis=-1)[..., 0]
        return -jnp.where(BATCH.target_mask, chosen, 0.0).sum() / BATCH.target_mask.sum()

    def pair(params: Any) -> jax.Array:
        return non_saturating_by_hand(params, BATCH, fake, dense=False, judge=judge)

    after, metrics = stepped(gan, state)
    params = state.discriminator.params
    expected = moved_by(lambda p: pair(p) + weight * next_token_loss(p), params)
    assert_trees_close(after.discriminator.params, expected, rtol=1e-4, atol=1e-5)
    assert_trees_differ(moved_by(pair, params), after.discriminator.params)
    assert float(metrics["discriminator_loss"]) == pytest.approx(float(jax.jit(pair)(params)), rel=1e-4)
    found = float(metrics["discriminator_next_token_loss"])
    assert found == pytest.approx(float(jax.jit(next_token_loss)(params)), rel=1e-4)


def test_with_several_texts_a_prompt_a_real_text_ties_with_another_and_never_with_itself() -> None:
    samples = 3
    gan = gan_of(
        dense=False, pair_loss=relativistic_tie, estimator=reinforce(1.0, no_baseline())._replace(samples=samples)
    )
    state = state_of(gan)
    params = state.discriminator.params
    fake = answers_by_hand(keys_by_hand(state)[0], state.generator.params, BATCH, samples)
    real, written = (np.asarray(DISCRIMINATOR.scores(params, texts).sequence) for texts in (BATCH, fake))

    def other(difference: np.ndarray) -> np.ndarray:
        return np.log(np.exp(difference / 2) + np.exp(-difference / 2) + 1)

    pairs = np.repeat(real, samples) - written
    ties = [other(x - np.roll(x, -1)).mean() for x in (real, written.reshape(-1, samples).T.ravel())]
    expected = (other(pairs) - pairs / 2).mean() + sum(ties) / 4
    assert float(stepped(gan, state)[1]["discriminator_loss"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.thorough
def test_the_discriminator_enlarges_the_discrepancy_of_its_features_by_its_weight() -> None:
    weight, h = 0.7, 0.8
    gan = gan_of(dense=False, reward=rewards.mmd((h,)), mmd_weight=weight, mmd_bandwidths=(h,))
    state = state_of(gan)
    fake = answers_by_hand(keys_by_hand(state)[0], state.generator.params, BATCH)

    def likeness(x: jax.Array, y: jax.Array, same: bool) -> jax.Array:
        """The mean kernel of two texts, one from each; of the same texts never of one with itself."""
        kernel = jnp.exp(-jnp.square(x[:, None] - y[None]).sum(axis=-1) / (2 * h**2))
        pairs = 1 - jnp.eye(len(x)) if same else jnp.ones(kernel.shape)
        return (kernel * pairs).sum() / pairs.sum()

    def discrepancy(params: Any) -> jax.Array:
        x, y = (DISCRIMINATOR.scores(params, texts).features for texts in (BATCH, fake))
        assert x is not None
        assert y is not None
        return likeness(x, x, True) + likeness(y, y, True) - 2 * likeness(x, y, False)

    def pair(params: Any) -> jax.Array:
        return non_saturating_by_hand(params, BATCH, fake, dense=False)

    after, metrics = stepped(gan, state)
    params = state.discriminator.params
    expected = moved_by(lambda p: pair(p) - weight * discrepancy(p), params)
    assert_trees_close(after.discriminator.params, expected, rtol=1e-4, atol=1e-5)
    assert_trees_differ(moved_by(pair, params), expected)
    assert float(metrics["feature_mmd"]) == pytest.approx(float(discrepancy(params)), rel=1e-4)
    assert float(metrics["discriminator_loss"]) == pytest.approx(float(pair(params)), rel=1e-4)


def test_a_discriminator_that_predicts_nothing_has_no_such_objective() -> None:
    with pytest.raises(ValueError, match="next_token_weight needs a Transformer"):
        gan_of(next_token_weight=0.5)


# ---- several texts a prompt


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["discriminator_step", "adversarial_step"])
def test_each_real_text_is_compared_with_all_the_answers_to_its_prompt(name: str) -> None:
    estimator = reinforce(1.0, moving_average())._replace(samples=3)
    gan = gan_of(estimator=estimator, dense=False, pair_loss=relativistic)
    state = state_of(gan)
    steep = jax.tree.map(lambda x: 4 * x, state.discriminator.params)
    state = state.replace(discriminator=state.discriminator.replace(params=steep))
    fake = answers_by_hand(keys_by_hand(state)[0], state.generator.params, BATCH, 3)

    def loss(params: Any) -> jax.Array:
        real = DISCRIMINATOR.scores(params, BATCH).sequence
        difference = DISCRIMINATOR.scores(params, fake).sequence.reshape(6, 3) - real[:, None]
        return jnp.logaddexp(0, difference).mean()

    after, metrics = stepped(gan, state, name=name)
    params = state.discriminator.params
    assert float(metrics["discriminator_loss"]) == pytest.approx(float(jax.jit(loss)(params)), rel=1e-4)
    assert_trees_close(after.discriminator.params, moved_by(loss, params), rtol=1e-4, atol=1e-5)
    real, generated = (np.asarray(DISCRIMINATOR.scores(params, x).sequence) for x in (BATCH, fake))
    won = np.heaviside(np.round(real[:, None] - generated, 6), 0.5).mean()
    assert float(metrics["discriminator_accuracy"]) == pytest.approx(won, abs=1e-6)
    of_prompt = np.heaviside(np.round(real[:, None] - generated.reshape(6, 3), 6), 0.5).mean()
    of_others = np.heaviside(np.round(np.roll(real, 1)[:, None] - generated.reshape(6, 3), 6), 0.5).mean()
    assert of_prompt != of_others
    assert float(metrics["prompt_accuracy"]) == pytest.approx(of_prompt, abs=1e-6)


# ---- replay


def labelled(count: int, label: int, marks: Any = 0) -> Batch:
    """Texts that are known by their label, their prompt and both of their target's arrays at once."""
    batch = batch_of(prompts=(3,) * count, targets=(4,) * count)
    marks = jnp.broadcast_to(jnp.asarray(marks, jnp.int32), count)
    return batch.replace(
        prompt=jnp.tile(marks[:, None], (1, 3)), target=jnp.tile(marks[:, None], (1, T)),
        target_mask=jnp.arange(T) <= marks[:, None] % T, label=jnp.full(count, label, jnp.int32),
    )  # fmt: skip


def test_memory_overwrites_the_oldest_texts() -> None:
    replay = empty_replay(BATCH, 5)
    assert replay.texts.target.shape == (5, T)
    assert replay.texts.prompt.shape == (5, 3)
    assert int(replay.written) == 0
    for kept, numbers in (
        ([1, 2, 0, 0, 0], [1, 2]),
        ([1, 2, 3, 4, 0], [3, 4]),
        ([6, 2, 3, 4, 5], [5, 6]),
        ([6, 7, 8, 9, 5], [7, 8, 9]),
    ):
        replay = jax.jit(remember)(replay, labelled(len(numbers), 1, numbers))
        expected = labelled(5, 1, kept)
        for name in ("prompt", "target", "target_mask"):
            full = np.asarray(kept) > 0
            np.testing.assert_array_equal(getattr(replay.texts, name)[full], getattr(expected, name)[full])
    assert int(replay.written) == 9


@pytest.mark.thorough
def test_with_nothing_remembered_yet_the_step_is_that_without_a_memory_and_then_its_texts_are_kept() -> None:
    ours, theirs = gan_of(replay_size=8, replay_share=0.9), gan_of()
    for name in ("discriminator_step", "adversarial_step"):
        state = state_of(ours)
        (after, metrics), (plain, others) = (
            stepped(ours, state, name=name), stepped(theirs, state.replace(replay=None), name=name),
        )  # fmt: skip
        assert_trees_close(after.replace(replay=None), plain, rtol=1e-6, atol=1e-7)
        assert_trees_close(metrics, others, rtol=1e-6, atol=1e-7)
        assert int(after.replay.written) == 6
        written = answers_by_hand(keys_by_hand(state)[0], state.generator.params, BATCH)
        assert_trees_close(rows(after.replay.texts, slice(6)), written, rtol=0, atol=0)
        assert not after.replay.texts.target_mask[6:].any()
        # The next texts follow in the two free places and then in place of the first ones.
        later, _ = stepped(ours, after, name=name)
        written = answers_by_hand(keys_by_hand(after)[0], after.generator.params, BATCH)
        assert int(later.replay.written) == 12
        assert_trees_close(rows(later.replay.texts, np.array([6, 7, 0, 1, 2, 3])), written, rtol=0, atol=0)
        assert_trees_close(rows(later.replay.texts, slice(4, 6)), rows(after.replay.texts, slice(4, 6)), rtol=0, atol=0)


def by_label() -> Discriminator:
    """Scores a text by its label; those that are not of one piece get NaN."""

    def scores(params: Any, batch: Batch, dropout_key: jax.Array | None = None) -> Scores:
        mark = batch.target[:, 0]
        whole = (batch.prompt == mark[:, None]).all(axis=1) & (batch.target == mark[:, None]).all(axis=1)
        whole &= (batch.target_mask == (jnp.arange(T) <= mark[:, None] % T)).all(axis=1)
        score = params["weight"] * jnp.where((batch.label < 1) | whole, batch.label.astype(jnp.float32), jnp.nan)
        return Scores(jnp.tile(score[:, None], (1, T)), score)

    return Discriminator(lambda key, batch: {"weight": jnp.ones(())}, scores, None, None, None)  # type: ignore[arg-type]


@pytest.mark.thorough
def test_a_share_of_the_generated_texts_is_drawn_evenly_from_all_that_are_remembered() -> None:
    size, share, steps = 8, 0.3, 300

    def mean_of_fake(real: Any, real_mask: Any, fake: jax.Array, fake_mask: Any) -> jax.Array:
        return fake.mean()

    gan = gan_of(by_label(), dense=False, pair_loss=mean_of_fake, replay_size=size, replay_share=share)
    fresh = BATCH.replace(label=jnp.zeros(6, jnp.int32))
    state = state_of(gan, fresh).replace(discriminator=Player({"weight": jnp.ones(())}, optax.sgd(1.0).init({})))
    # Five texts so far, worth 10^mark; what the three places that are still free hold would be worth 10^6.
    worth = jnp.array([1, 1, 1, 1, 1, 10**6, 10**6, 10**6])
    texts = labelled(size, 1, jnp.arange(size) % 7).replace(label=worth)

    def found(texts: Batch, written: int) -> np.ndarray:
        run = jax.jit(jax.vmap(lambda s: gan.discriminator_step(s, fresh)[1]["discriminator_loss"], in_axes=(0,)))
        now = state.replace(replay=Replay(texts, jnp.int32(written)))
        many = jax.tree.map(lambda x: jnp.broadcast_to(x, (steps, *x.shape)), now)
        return np.asarray(run(many.replace(step=jnp.arange(steps, dtype=jnp.int32))))

    error = 4 * np.sqrt(share * (1 - share) / (6 * steps))
    of_one = found(texts, 5)
    assert of_one.mean() == pytest.approx(share, abs=error)
    assert len(np.unique(of_one)) > 3  # row by row and step by step
    for slot in (0, 4):  # each of the five equally often
        one = found(
            texts.replace(label=jnp.where(jnp.arange(size) == slot, 1, jnp.where(jnp.arange(size) < 5, 0, 9))), 5
        )
        assert one.mean() == pytest.approx(share / 5, abs=4 * np.sqrt(share / 5 / (6 * steps)))
    # When the memory has been filled more than once, all of its places count.
    last = found(texts.replace(label=(jnp.arange(size) == size - 1).astype(jnp.int32)), 21)
    assert last.mean() == pytest.approx(share / 8, abs=4 * np.sqrt(share / 8 / (6 * steps)))


def test_reward_and_accuracy_are_of_the_fresh_texts_alone() -> None:
    ours, theirs = gan_of(replay_size=8, replay_share=0.9, reward=rewards.logit), gan_of(reward=rewards.logit)
    state = state_of(ours)
    state = state.replace(replay=Replay(labelled(8, 1, 6), jnp.int32(8)))
    (after, metrics), (plain, others) = (
        stepped(ours, state, name="adversarial_step"),
        stepped(theirs, state.replace(replay=None), name="adversarial_step"),
    )  # fmt: skip
    assert_trees_close(after.generator, plain.generator, rtol=1e-6, atol=1e-7)
    for name in ("reward", "discriminator_accuracy", "length", "entropy"):
        assert float(metrics[name]) == pytest.approx(float(others[name]), rel=1e-5), name
    assert_trees_differ(after.discriminator.params, plain.discriminator.params)
    assert abs(float(metrics["discriminator_loss"]) - float(others["discriminator_loss"])) > 1e-3
    assert_trees_close(
        rows(after.replay.texts, slice(6)),
        answers_by_hand(keys_by_hand(state)[0], state.generator.params, BATCH), rtol=0, atol=0,
    )  # fmt: skip


# ---- several updates of the discriminator


@pytest.mark.thorough
@pytest.mark.parametrize("replay", [0, 18])
def test_further_updates_of_the_discriminator_are_as_many_steps_of_its_own(replay: int) -> None:
    """The generator and the first update take rows 0, 3, ...; the others follow with texts of their own."""
    options: dict[str, Any] = {"reward": rewards.logit, "replay_size": replay}
    three, one = gan_of(discriminator_updates=3, **options), gan_of(**options)
    state = state_of(three, step=4)
    after, metrics = stepped(three, state, name="adversarial_step")
    expected, others = stepped(one, state, rows(BATCH, slice(None, None, 3)), name="adversarial_step")
    # The generator learns once, from the discriminator before the step.
    assert_trees_close(after.generator, expected.generator, rtol=1e-5, atol=1e-6)
    assert_trees_close(after.estimator, expected.estimator)
    for name, value in others.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    assert int(after.step) == 5
    key_more = jax.random.split(jax.random.fold_in(state.key, state.step), 4)[3]
    params, texts = expected.discriminator.params, expected.replay
    for k, key in zip((1, 2), jax.random.split(key_more, 2), strict=True):
        key_sample, _ = jax.random.split(key)
        real = rows(BATCH, slice(k, None, 3))
        # Written by the generator as it was before the step.
        fake = answers_by_hand(key_sample, state.generator.params, real)
        if replay:
            texts = remember(texts, fake)
        else:
            params = moved_by(lambda p, real=real, fake=fake: non_saturating_by_hand(p, real, fake, True), params)
    if replay:
        assert int(after.replay.written) == 6
        assert_trees_close(after.replay, texts, rtol=0, atol=0)
    else:
        assert_trees_close(after.discriminator.params, params, rtol=1e-4, atol=1e-5)
        assert_trees_differ(after.discriminator.params, expected.discriminator.params)


@pytest.mark.thorough
def test_each_representation_is_judged_by_itself_in_the_loss_and_the_generator_is_paid_their_mean() -> None:
    config = CnnConfig(embedding=4, representations=2, widths=(1, 2), filters=3, dropout=0.0)
    discriminator = build_discriminator(config, VOCABULARY)
    gan = gan_of(discriminator, dense=False, pair_loss=relativistic, reward=rewards.log_pair_probability)
    state = state_of(gan)
    _, metrics = stepped(gan, state, name="adversarial_step")
    key = jax.random.split(jax.random.fold_in(state.key, state.step), 4)[0]
    written = sample(GENERATOR, state.generator.params, key, BATCH.prompt, BATCH.prompt_mask, T)
    fakes = BATCH.replace(target=written.tokens, target_mask=written.mask)
    parts: list[Any] = [discriminator.scores(state.discriminator.params, texts).parts for texts in (BATCH, fakes)]
    real, fake = (np.asarray(x, np.float64) for x in parts)
    assert np.abs(real[:, 0] - real[:, 1]).max() > 0.1
    assert float(metrics["discriminator_loss"]) == pytest.approx(np.log1p(np.exp(fake - real)).mean(), rel=1e-4)
    paid = -np.log1p(np.exp(real[None] - fake[:, None]))
    assert float(metrics["reward"]) == pytest.approx(paid.mean(), rel=1e-4)
