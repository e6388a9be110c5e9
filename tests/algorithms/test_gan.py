"""The three steps: what each changes and by how much; the reward is that of the discriminator before its update."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import VOCABULARY, assert_trees_close, assert_trees_differ, batch_of, random_params

from gptgan_jax import (
    CnnConfig,
    Demonstrations,
    Gan,
    GanState,
    LinearConfig,
    Player,
    Sample,
    TopK,
    TransformerConfig,
    build_discriminator,
    build_generator,
    distill,
    feature_matching,
    gan_from,
    grpo,
    gumbel,
    learned_value,
    ppo,
    reinforce,
    relativistic,
    rewards,
    sample,
    spin,
)
from gptgan_jax.algorithms import texts as texts_of_a_step
from gptgan_jax.gradients.baselines import MovingAverage
from gptgan_jax.metrics.ngrams import repetition

BATCH = batch_of(prompts=(2, 3, 1, 2, 3, 1), targets=(4, 2, 3, 4, 1, 4))
RATE_G, RATE_D = 0.1, 2.0
# Dropout in both networks: the texts, the reward and the generator's gradient must not know of it.
SIZES: dict[str, Any] = {"layers": 1, "width": 8, "heads": 2, "max_positions": 16, "dropout": 0.3}
GENERATOR = build_generator(TransformerConfig(**SIZES), VOCABULARY)
DISCRIMINATORS = {
    "dense": build_discriminator(CnnConfig(embedding=4, widths=(1, 2), filters=4, dropout=0.3), VOCABULARY),
    "whole": build_discriminator(LinearConfig(embedding=4), VOCABULARY),
}
OPTIMIZERS: dict[str, Any] = {"generator_optimizer": optax.sgd(RATE_G), "discriminator_optimizer": optax.sgd(RATE_D)}
GANS = {
    "dense": gan_from(GENERATOR, DISCRIMINATORS["dense"], estimator=reinforce(0.5), **OPTIMIZERS),
    "whole": gan_from(
        GENERATOR, DISCRIMINATORS["whole"], estimator=reinforce(0.9), pair_loss=relativistic, reward=rewards.logit,
        dense=False, temperature=0.7, entropy_weight=0.3, kl_weight=0.4, **OPTIMIZERS,
    ),
}  # fmt: skip
BOTH = pytest.mark.parametrize("name", GANS)


@functools.cache
def jitted(name: str, step: str) -> Any:
    return jax.jit(getattr(GANS[name], step))


@functools.cache
def state_of(name: str) -> GanState:
    """A state in the middle of a phase: at step 5, with a baseline, and away from its reference."""
    gan = GANS[name]
    state = random_params_of(gan)
    reference = None if state.reference is None else random_params(state.reference, seed=7)
    baseline = MovingAverage(jnp.float32(0.1), jnp.float32(0.5))
    return state.replace(step=jnp.int32(5), reference=reference, estimator=baseline)


def random_params_of(gan: Gan) -> GanState:
    shapes = jax.eval_shape(gan.init, jax.random.key(0), BATCH)
    player_g = Player(random_params(shapes.generator.params, seed=1), None)
    player_d = Player(random_params(shapes.discriminator.params, seed=2), None)
    return gan.begin(
        shapes.replace(step=jnp.int32(0), key=jax.random.key(3), generator=player_g, discriminator=player_d), BATCH
    )


def test_init_gives_step_0_two_players_and_the_same_state_for_the_same_key() -> None:
    gan = gan_from(GENERATOR, DISCRIMINATORS["whole"])
    init = jax.jit(gan.init)
    state, again, other = (init(jax.random.key(k), BATCH) for k in (0, 0, 1))
    assert int(state.step) == 0
    assert state.reference is None
    assert_trees_close(again, state, rtol=0, atol=0)
    assert_trees_differ(state.generator.params, other.generator.params)
    assert (jax.random.key_data(state.key) != jax.random.key_data(other.key)).any()


def test_likelihood_steps_lower_the_loss_of_a_repeated_batch_and_touch_the_generator_alone() -> None:
    generator = build_generator(TransformerConfig(**(SIZES | {"dropout": 0.0})), VOCABULARY)
    gan = gan_from(generator, DISCRIMINATORS["whole"], generator_optimizer=optax.adam(0.03))
    before = state = random_params_of(gan)
    step, losses = jax.jit(gan.likelihood_step), []
    for _ in range(40):
        state, metrics = step(state, BATCH)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    assert int(state.step) == 40
    assert_trees_close(state.discriminator, before.discriminator, rtol=0, atol=0)
    assert_trees_close(state.estimator, before.estimator, rtol=0, atol=0)


@pytest.mark.cases(1)
@BOTH
def test_a_discriminator_step_touches_the_discriminator_alone(name: str) -> None:
    before = state_of(name)
    after, metrics = jitted(name, "discriminator_step")(before, BATCH)
    assert int(after.step) == 6
    assert_trees_close(after.replace(step=before.step, discriminator=before.discriminator), before, rtol=0, atol=0)
    assert_trees_differ(after.discriminator.params, before.discriminator.params)
    assert float(metrics["real_length"]) == pytest.approx(3.0)


def test_discriminator_steps_teach_it_to_tell_the_batch_from_what_the_generator_writes() -> None:
    gan = gan_from(GENERATOR, DISCRIMINATORS["whole"], discriminator_optimizer=optax.adam(0.05))
    state, step, accuracies = random_params_of(gan), jax.jit(gan.discriminator_step), []
    for _ in range(80):
        state, metrics = step(state, BATCH)
        accuracies.append(float(metrics["discriminator_accuracy"]))
    assert np.mean(accuracies[-20:]) > max(0.8, np.mean(accuracies[:5]))


def words_of(tokens: Any, mask: Any) -> list[list[int]]:
    """Each text's tokens up to its end."""
    return [row[there].tolist() for row, there in zip(np.asarray(tokens), np.asarray(mask), strict=True)]


def by_hand(name: str, state: GanState) -> dict[str, Any]:
    """One adversarial step, from its published pieces; rewards and returns by loops over tokens."""
    whole, temperature, discount = name == "whole", 0.7 if name == "whole" else 1.0, 0.9 if name == "whole" else 0.5
    key_sample = jax.random.split(jax.random.fold_in(state.key, state.step), 4)[0]
    write = jax.jit(lambda p: sample(GENERATOR, p, key_sample, BATCH.prompt, BATCH.prompt_mask, 4, temperature))
    written = write(state.generator.params)
    texts = BATCH.replace(target=written.tokens, target_mask=written.mask)
    scores = jax.jit(DISCRIMINATORS[name].scores)
    real, fake = (scores(state.discriminator.params, x) for x in (BATCH, texts))
    mask, tokens = np.asarray(written.mask), np.asarray(written.tokens)
    paid, advantages = np.zeros(mask.shape), np.zeros(mask.shape)
    for b, size in enumerate(mask.sum(axis=1)):
        if whole:
            paid[b, size - 1] = fake.sequence[b]
        else:
            paid[b, :size] = 2 / (1 + np.exp(-np.asarray(fake.tokens[b, :size], np.float64))) - 1
        for t in range(size):
            advantages[b, t] = sum(discount ** (s - t) * paid[b, s] for s in range(t, size)) - 0.2

    def parts(params: Any) -> dict[str, jax.Array]:
        """Sums over all tokens that count."""
        log_probs = jax.nn.log_softmax(GENERATOR.logits(params, texts) / temperature)
        probs, counts = jnp.exp(log_probs), jnp.asarray(mask, jnp.float32)
        reference = GENERATOR.logits(state.reference, texts) / temperature if whole else log_probs
        return {
            "policy": (jnp.eye(VOCABULARY.size)[tokens] * log_probs * advantages[..., None]).sum(),
            "entropy": -((probs * log_probs).sum(axis=-1) * counts).sum(),
            "kl": ((probs * (log_probs - jax.nn.log_softmax(reference))).sum(axis=-1) * counts).sum(),
        }

    def loss(params: Any) -> jax.Array:
        found = parts(params)
        weights = (0.3, 0.4) if whole else (0.0, 0.0)
        return (-found["policy"] - weights[0] * found["entropy"] + weights[1] * found["kl"]) / len(mask)

    wins = np.heaviside(np.asarray(real.sequence)[:, None] - np.asarray(fake.sequence)[None, :], 0.5)
    per_token = {key: float(x) / mask.sum() for key, x in jax.jit(parts)(state.generator.params).items()}
    metrics = {
        "discriminator_accuracy": wins.mean(),
        "reward": paid.sum() / (len(mask) if whole else mask.sum()),
        "entropy": per_token["entropy"],
        "length": mask.sum(axis=1).mean(),
        "real_length": 3.0,
        "repetition": repetition(words_of(tokens, mask), 2).value,
        "real_repetition": repetition(words_of(BATCH.target, BATCH.target_mask), 2).value,
        "baseline": 0.2,
    }
    returned = advantages.sum() / mask.sum() + 0.2
    return {
        "loss": jax.jit(loss),
        "texts": texts,
        "returned": returned,
        "metrics": metrics | ({"kl": per_token["kl"]} if whole else {}),
    }


@functools.cache
def both_ways(name: str) -> tuple[GanState, dict[str, Any], dict[str, Any]]:
    return *jitted(name, "adversarial_step")(state_of(name), BATCH), by_hand(name, state_of(name))


@pytest.mark.thorough
@BOTH
def test_reward_and_accuracy_are_those_of_the_discriminator_before_the_step(name: str) -> None:
    after, metrics, expected = both_ways(name)
    for key, value in expected["metrics"].items():
        assert float(metrics[key]) == pytest.approx(value, rel=1e-3, abs=1e-5), key
    updated = by_hand(name, state_of(name).replace(discriminator=after.discriminator))["metrics"]
    assert abs(updated["reward"] - expected["metrics"]["reward"]) > 0.01


@pytest.mark.thorough
@BOTH
def test_the_generators_update_is_the_one_made_by_hand(name: str) -> None:
    after, metrics, expected = both_ways(name)
    before = state_of(name).generator.params
    gradient = jax.jit(jax.grad(expected["loss"]))(before)
    by_hand = jax.tree.map(lambda p, g: p - RATE_G * g, before, gradient)
    assert_trees_close(after.generator.params, by_hand, rtol=1e-4, atol=1e-5)
    assert float(metrics["gradient_norm"]) == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-3)
    assert float(metrics["gradient_norm"]) > 0.05


@BOTH
def test_the_baseline_learns_the_steps_mean_return(name: str) -> None:
    after, _, expected = both_ways(name)
    assert float(after.estimator.total) == pytest.approx(0.9 * 0.1 + 0.1 * expected["returned"], rel=1e-4, abs=1e-6)
    assert float(after.estimator.weight) == pytest.approx(0.9 * 0.5 + 0.1)


@BOTH
def test_the_generators_gradient_agrees_with_finite_differences_entropy_and_kl_included(name: str) -> None:
    after, _, expected = both_ways(name)
    before = state_of(name).generator.params
    gradient = jax.tree.map(lambda a, b: (b - a) / RATE_G, after.generator.params, before)
    direction = jax.tree.map(lambda x: x / optax.tree.norm(gradient), gradient)
    ahead, behind = (jax.tree.map(lambda p, d, e=e: p + e * d, before, direction) for e in (0.01, -0.01))  # fmt: skip
    slope = (float(expected["loss"](ahead)) - float(expected["loss"](behind))) / 0.02
    assert slope == pytest.approx(float(optax.tree.norm(gradient)), rel=0.01)


@BOTH
def test_both_players_learn_in_one_step_and_the_discriminator_as_in_a_step_of_its_own(name: str) -> None:
    after, metrics, _ = both_ways(name)
    alone, metrics_alone = jitted(name, "discriminator_step")(state_of(name), BATCH)
    assert_trees_close(after.discriminator, alone.discriminator)
    assert float(metrics["discriminator_loss"]) == pytest.approx(float(metrics_alone["discriminator_loss"]), rel=1e-5)
    assert int(after.step) == 6


def test_the_discriminators_update_is_that_of_the_pair_loss_on_real_and_generated_texts() -> None:
    after, metrics, expected = both_ways("whole")
    before = state_of("whole").discriminator.params

    def loss(params: Any) -> jax.Array:
        real, fake = (DISCRIMINATORS["whole"].scores(params, x).sequence for x in (BATCH, expected["texts"]))
        return jnp.log1p(jnp.exp(fake - real)).mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(before)
    assert float(metrics["discriminator_loss"]) == pytest.approx(float(value), rel=1e-4)
    by_hand = jax.tree.map(lambda p, g: p - RATE_D * g, before, gradient)
    assert_trees_close(after.discriminator.params, by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("step", ["likelihood_step", "adversarial_step"])
def test_the_same_state_and_batch_give_the_same_result_and_the_next_step_other_noise(step: str) -> None:
    run, state = jitted("dense", step), state_of("dense")
    first, second, later = run(state, BATCH), run(state, BATCH), run(state.replace(step=jnp.int32(6)), BATCH)
    assert_trees_close(second, first, rtol=0, atol=0)
    assert later[1]["gradient_norm"] != first[1]["gradient_norm"]
    np.testing.assert_array_equal(jax.random.key_data(first[0].key), jax.random.key_data(state.key))


def test_a_donated_state_gives_the_same_result_as_one_that_is_kept() -> None:
    kept, donated = jitted("whole", "adversarial_step"), jax.jit(GANS["whole"].adversarial_step, donate_argnums=0)
    ours, theirs = (random_params_of(GANS["whole"]) for _ in range(2))
    for _ in range(3):
        (ours, _), (theirs, _) = kept(ours, BATCH), donated(theirs, BATCH)
    assert_trees_close(theirs, ours)
    assert theirs.reference is not None


def with_all() -> Gan:
    """Several texts a prompt and updates a step, a memory, an average, minibatches and demonstrations."""
    return gan_from(
        GENERATOR, DISCRIMINATORS["whole"], estimator=grpo(2, minibatches=2), dense=False, discriminator_updates=2,
        replay_size=32, ema_decay=0.9, demonstrations=Demonstrations(0.5, 1.0, 10), **OPTIMIZERS,
    )  # fmt: skip


@pytest.mark.thorough
def test_a_new_state_can_be_donated_at_once() -> None:
    gan = with_all()
    state, _ = jax.jit(gan.adversarial_step, donate_argnums=0)(gan.init(jax.random.key(0), BATCH), BATCH)
    state, _ = jax.jit(gan.adversarial_step, donate_argnums=0)(gan.begin(state, BATCH), BATCH)
    assert (int(state.step), int(state.begun)) == (2, 1)


@pytest.mark.thorough
def test_an_unjitted_step_equals_the_jitted_one() -> None:
    state = state_of("dense")
    ours, theirs = GANS["dense"].likelihood_step(state, BATCH), jitted("dense", "likelihood_step")(state, BATCH)
    assert_trees_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_begin_keeps_parameters_step_and_key_and_renews_all_else() -> None:
    gan = gan_from(GENERATOR, DISCRIMINATORS["whole"], kl_weight=0.1)
    old = random_params_of(gan)
    ones = jax.tree.map(jnp.ones_like, (old.generator.opt_state, old.discriminator.opt_state))
    old = old.replace(
        step=jnp.int32(9),
        generator=old.generator.replace(opt_state=ones[0]),
        discriminator=old.discriminator.replace(opt_state=ones[1]),
        estimator=MovingAverage(jnp.float32(3), jnp.float32(1)),
        reference=None,
    )
    new = gan.begin(old, BATCH)
    assert int(new.step) == 9
    for part in ("generator", "discriminator"):
        assert_trees_close(getattr(new, part).params, getattr(old, part).params, rtol=0, atol=0)
        assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(getattr(new, part).opt_state))
    np.testing.assert_array_equal(jax.random.key_data(new.key), jax.random.key_data(old.key))
    assert float(new.estimator.value) == 0
    assert_trees_close(new.reference, old.generator.params, rtol=0, atol=0)
    assert gan_from(GENERATOR, DISCRIMINATORS["whole"]).begin(old, BATCH).reference is None


# ---- the average of the generator's parameters


def test_begin_needs_a_batch_for_a_memory_alone() -> None:
    plain, remembering = (gan_from(GENERATOR, DISCRIMINATORS["whole"], replay_size=size) for size in (0, 4))
    state = random_params_of(remembering)
    assert plain.begin(state).replay is None
    replay = remembering.begin(state, BATCH).replay
    assert replay is not None
    assert replay.texts.target.shape == (4, 4)
    with pytest.raises(ValueError, match="batch"):
        remembering.begin(state)


@pytest.mark.parametrize("begun", ["plain", "whole"])
@pytest.mark.parametrize("step", ["discriminator_step", "adversarial_step"])
def test_a_replay_takes_the_texts_of_a_batch_and_not_their_places_in_the_data(step: str, begun: str) -> None:
    gan = gan_from(GENERATOR, DISCRIMINATORS["whole"], replay_size=8)
    top = TopK(jnp.zeros((*BATCH.target.shape, 2), jnp.int32), jnp.zeros((*BATCH.target.shape, 2)))
    batches = {"plain": BATCH, "whole": BATCH.replace(rows=jnp.arange(6), top_k=top)}
    state = jax.eval_shape(gan.init, jax.random.key(0), batches[begun])
    found = [jax.eval_shape(getattr(gan, step), state, batch)[0] for batch in batches.values()]
    assert jax.tree.structure(found[0]) == jax.tree.structure(found[1]) == jax.tree.structure(state)


@pytest.mark.parametrize("step", ["likelihood_step", "discriminator_step", "adversarial_step"])
def test_a_step_is_the_same_where_64_bit_types_are_enabled(step: str) -> None:
    generator = build_generator(TransformerConfig(**(SIZES | {"dropout": 0.0})), VOCABULARY)
    gan = gan_from(generator, DISCRIMINATORS["whole"], reward=rewards.ranked(), ema_decay=0.5, **OPTIMIZERS)
    state = gan.begin(random_params_of(gan), BATCH)
    expected, metrics = jax.jit(getattr(gan, step))(state, BATCH)
    with jax.enable_x64(True):
        found, of_found = jax.jit(getattr(gan, step))(state, BATCH)
    assert [x.dtype for x in jax.tree.leaves(found)] == [x.dtype for x in jax.tree.leaves(state)]
    assert_trees_close((found, of_found), (expected, metrics), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("learning", ["likelihood_step", "adversarial_step"])
def test_the_average_of_the_generator_is_ramped_up_and_changed_by_the_steps_that_change_the_generator(
    learning: str,
) -> None:
    gan = gan_from(GENERATOR, DISCRIMINATORS["whole"], ema_decay=0.25, **OPTIMIZERS)
    state = gan.begin(random_params_of(gan).replace(step=jnp.int32(7)), BATCH)
    step, start = jax.jit(getattr(gan, learning)), state.generator.params
    assert_trees_close(state.generator.ema, start, rtol=0, atol=0)
    average = start
    for decay in (1 / 10, 2 / 11, 3 / 12, 0.25):
        state, _ = step(state, BATCH)
        average = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, average, state.generator.params)
        assert_trees_close(state.generator.ema, average, rtol=1e-5, atol=1e-6)
        assert_trees_close(state.generator.averaged, average, rtol=1e-5, atol=1e-6)
    assert_trees_differ(average, state.generator.params)
    assert_trees_close(gan.begin(state, BATCH).generator.params, average, rtol=1e-5, atol=1e-6)
    alone, _ = jax.jit(gan.discriminator_step)(state, BATCH)
    assert_trees_close(alone.generator, state.generator, rtol=0, atol=0)


def test_the_next_phase_begins_from_the_average_and_without_one_from_the_parameters() -> None:
    options: dict[str, Any] = {"kl_weight": 0.1}
    averaging = gan_from(GENERATOR, DISCRIMINATORS["whole"], ema_decay=0.9, **options)
    plain = gan_from(GENERATOR, DISCRIMINATORS["whole"], **options)
    old = random_params_of(averaging)
    average = random_params(old.generator.params, seed=9)
    old = old.replace(step=jnp.int32(4), generator=old.generator.replace(ema=average))
    for gan in (averaging, plain):
        new = gan.begin(old, BATCH)
        assert_trees_close(new.generator.params, average, rtol=0, atol=0)
        assert_trees_close(new.reference, average, rtol=0, atol=0)
        assert int(new.begun) == 4
    assert_trees_close(averaging.begin(old, BATCH).generator.ema, average, rtol=0, atol=0)
    assert plain.begin(old, BATCH).generator.ema is None
    without = plain.begin(old.replace(generator=old.generator.replace(ema=None)), BATCH)
    assert_trees_close(without.generator.params, old.generator.params, rtol=0, atol=0)
    assert_trees_close(without.generator.averaged, old.generator.params, rtol=0, atol=0)


# ---- what comes after EOS

BY_FAMILY: dict[str, Any] = {
    "policy_gradient": {
        "estimator": ppo(0.9, learned_value(), epochs=2), "kl_weight": 0.2, "kl_estimator": "low_variance",
        "entropy_weight": 0.1, "r1_weight": 0.3, "r2_weight": 0.3, "replay_size": 6,
    },
    "gradient_penalty": {"gradient_penalty_weight": 0.3},
    "pathwise": {"estimator": gumbel(), "kl_weight": 0.2, "pair_loss": relativistic, "reward": rewards.log_ratio},
    "self_play": {"estimator": spin()},
    "feature_matching": {
        "estimator": feature_matching(3, length=2, context=1, stride=1), "reward": rewards.logit, "dense": False,
        "likelihood_weight": 0.3,
    },
    "distillation": {
        "estimator": distill(0.5, 0.6), "teacher": GENERATOR, "likelihood_weight": 0.3,
    },
}  # fmt: skip


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("family", BY_FAMILY)
def test_what_stands_after_the_end_of_a_text_changes_nothing(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gan = gan_from(GENERATOR, DISCRIMINATORS["dense"], **(OPTIMIZERS | BY_FAMILY[family]))
    state = random_params_of(gan)
    if state.reference is not None and family != "self_play":
        state = state.replace(reference=random_params(state.reference, seed=7))
    if family == "distillation":
        state = state.replace(teacher=random_params(state.generator.params, seed=7))
    clean = texts_of_a_step.sample

    @jax.jit
    def step(state: GanState, filler: jax.Array) -> Any:
        """With the filler in the padding of what was written, and in that of the real batch."""

        def filled(*arguments: Any, **options: Any) -> Sample:
            written = clean(*arguments, **options)
            return written.replace(
                tokens=jnp.where(written.mask, written.tokens, filler),
                log_probs=jnp.where(written.mask, written.log_probs, filler * 1.0),
            )

        monkeypatch.setattr(texts_of_a_step, "sample", filled)
        batch = BATCH.replace(
            target=jnp.where(BATCH.target_mask, BATCH.target, filler),
            prompt=jnp.where(BATCH.prompt_mask, BATCH.prompt, filler),
        )
        after, metrics = gan.adversarial_step(state, batch)
        # Twice, so that a memory is read as well.
        later, more = gan.adversarial_step(after, batch)
        return later.generator, later.discriminator, later.estimator, metrics, more

    one, other = step(state, jnp.int32(0)), step(state, jnp.int32(5))
    assert float(one[3]["length"]) < 4
    assert_trees_close(other, one, rtol=1e-5, atol=1e-6)
    assert_trees_differ(one[0].params, state.generator.params)
