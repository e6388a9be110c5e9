"""What is built wrong is refused when it is built, and what fits nowhere when it is traced: one line, what is right."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from helpers import VOCABULARY, batch_of

import gptgan_jax as gg

GENERATOR = gg.build_generator(gg.LstmConfig(hidden=4, embedding=4), VOCABULARY)
DISCRIMINATOR = gg.build_discriminator(gg.LinearConfig(embedding=4), VOCABULARY)
OTHERS = gg.build_discriminator(gg.LinearConfig(embedding=4), gg.Vocabulary(VOCABULARY.size + 1))
ADAPTED = gg.build_generator(gg.LstmConfig(hidden=4, embedding=4, lora=gg.LoraConfig(rank=2)), VOCABULARY)
BATCH = batch_of()
gan_of = functools.partial(gg.gan_from, GENERATOR, DISCRIMINATOR)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: gan_of(estimator="reinforce"), r"estimator should be .* reinforce\(discount=0.95\), not 'reinforce'"),
        (lambda: gan_of(estimator=gg.reinforce), "estimator should be .*, not the function reinforce"),
        (lambda: gan_of(reward="sigmoid"), "reward should be a function, such as rewards.sigmoid, not 'sigmoid'"),
        (lambda: gan_of(reward=gg.rewards.relative), "function relative does not take 2 .* is it to be called first"),
        (lambda: gan_of(reward=lambda judgement, key: gg.hinge), "gives the function hinge, and should give float"),
        (lambda: gan_of(pair_loss=0.5), "pair_loss should be a function, such as hinge, not 0.5"),
        (lambda: gan_of(generator_optimizer="adam"), r"generator_optimizer should .* optax.adam\(1e-3\), not 'adam'"),
        (lambda: gan_of(discriminator_optimizer=1e-3), "discriminator_optimizer should be an Optax optimizer"),
        (lambda: gan_of(discriminator_optimizer=optax.adam), "not the function adam"),
        (lambda: gg.gan_from(DISCRIMINATOR, GENERATOR), "generator should be a Generator, .* players are swapped"),  # type: ignore[arg-type]
        (lambda: gg.gan_from(GENERATOR, OTHERS), "vocabulary has 7 ids, the discriminator's 8: build both of one"),
        (lambda: gg.build_generator(gg.CnnConfig(), VOCABULARY), "RelationalConfig or a LeakganConfig, not CnnConfig"),  # type: ignore[arg-type]
        (lambda: gg.build_discriminator(gg.LstmConfig(), VOCABULARY), "be one of LinearConfig, .* not LstmConfig"),  # type: ignore[arg-type]
        (lambda: gg.build_generator(gg.LstmConfig(), gg.Vocabulary(2)), "eos_id 2 is none of the .* 0 to 1"),
        (lambda: gg.gan_from(ADAPTED, DISCRIMINATOR), "has adapters, which need trained weights: give start"),
        (lambda: gan_of(estimater=1, dens=True), "^gan_from: .* did you mean 'estimator'.; .* did you mean 'dense'"),
        (lambda: gg.grpo(sample=2), "^grpo: unknown argument 'sample'; did you mean 'samples'"),  # type: ignore[call-arg]
        (lambda: gg.cot(zzz=2), "^cot: unknown argument 'zzz'; the arguments here are future"),  # type: ignore[call-arg]
        (lambda: gg.Vocabulary(zzz=2), "^Vocabulary: unknown argument 'zzz'; the arguments here are size, "),  # type: ignore[call-arg]
        (lambda: gg.unconditional_batch(jnp.zeros(3, jnp.int32), VOCABULARY), r"should be int \[B, T\].* \[3\]"),
        (lambda: gg.unconditional_batch(jnp.full((2, 3), 7), VOCABULARY), "holds the id 7; .* 0 to 6"),
    ],
)  # fmt: skip
def test_what_is_built_wrong_is_refused_by_name(build: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said) as raised:
        build()
    assert "\n" not in str(raised.value)


def doubled(params: Any) -> Any:
    return jax.tree.map(lambda x: 2 * x, params)


def test_adapters_begin_with_what_has_learned_and_so_does_any_generator_that_is_given_a_start() -> None:
    learned = GENERATOR.init(jax.random.key(7), BATCH)
    for generator in (GENERATOR, ADAPTED):
        gan = gg.gan_from(generator, DISCRIMINATOR, start=learned)
        begun = gan.init(jax.random.key(0), BATCH).generator.params
        assert jnp.array_equal(generator.logits(begun, BATCH), GENERATOR.logits(learned, BATCH))  # B is 0 at first
        assert jax.tree.structure(begun) == jax.tree.structure(generator.init(jax.random.key(1), BATCH))
        donated = gan.init(jax.random.key(0), BATCH).generator.params
        jax.jit(doubled, donate_argnums=0)(donated)
        assert any(x.is_deleted() for x in jax.tree.leaves(donated))
        assert not any(x.is_deleted() for x in jax.tree.leaves(learned))  # it may begin many states
    again = gg.gan_from(ADAPTED, DISCRIMINATOR, start=begun).init(jax.random.key(1), BATCH).generator.params
    assert all(map(jnp.array_equal, jax.tree.leaves(again), jax.tree.leaves(begun)))
    with pytest.raises(ValueError, match="start: these are not the parameters of this generator"):
        gg.gan_from(GENERATOR, DISCRIMINATOR, start={"trunk": jnp.zeros(3)}).init(jax.random.key(0), BATCH)


@functools.cache
def state() -> gg.GanState:
    return gan_of().init(jax.random.key(0), BATCH)


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("gan", "step", "said"),
    [
        ({"generator_optimizer": optax.sgd(0.1)}, "likelihood_step", "generator's optimizer is that of another"),
        ({"discriminator_optimizer": optax.sgd(0.1)}, "discriminator_step", "discriminator's optimizer is that"),
        ({"estimator": gg.reinforce(baseline=gg.learned_value())}, "adversarial_step", "that of another estimator"),
        ({"kl_weight": 0.1}, "adversarial_step", "has no reference, for kl_weight"),
        ({"ema_decay": 0.9}, "adversarial_step", "has no average, for ema_decay"),
        ({"replay_size": 8}, "adversarial_step", "has no replay, for replay_size"),
        ({"replay_size": 8}, "discriminator_step", "has no replay, for replay_size"),
    ],
)
def test_a_state_of_another_gan_is_refused_and_how_to_begin_is_said(gan: Any, step: str, said: str) -> None:
    other = gan_of(**gan)
    with pytest.raises(ValueError, match=f"{step}: .*{said}.*begin") as raised:
        jax.eval_shape(getattr(other, step), state(), BATCH)
    assert "\n" not in str(raised.value)
    jax.eval_shape(getattr(other, step), other.begin(state(), BATCH), BATCH)


@pytest.mark.parametrize("step", ["discriminator_step", "adversarial_step"])
def test_a_replay_that_a_gan_does_not_keep_is_refused(step: str) -> None:
    remembering = gan_of(replay_size=8)
    with pytest.raises(ValueError, match=f"{step}: the state has a replay, and replay_size is 0; begin"):
        jax.eval_shape(getattr(gan_of(), step), remembering.begin(state(), BATCH), BATCH)


@pytest.mark.parametrize(
    ("gan", "change", "said"),
    [
        ({}, {"target": BATCH.target[0]}, r"batch.target is int32 \[4\], and should be int \[B, T\]"),
        ({}, {"target_mask": BATCH.target}, "batch.target_mask is int32"),
        ({}, {"prompt": BATCH.prompt[:1], "prompt_mask": BATCH.prompt_mask[:1]}, "1 rows and batch.target 3"),
        ({"discriminator_updates": 2}, {}, "3 rows can't be split evenly over discriminator_updates 2"),
        ({"estimator": gg.grpo(2, minibatches=4)}, {}, "the 6 texts of a step .* into 4 minibatches"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_by_name(gan: Any, change: Any, said: str) -> None:
    other = gan_of(**gan)
    with pytest.raises((TypeError, ValueError), match=f"adversarial_step: .*{said}"):
        jax.eval_shape(other.adversarial_step, other.begin(state(), BATCH), BATCH.replace(**change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": -1.0}, "temperature should be at least 0, not -1"),
        ({"top_p": jnp.float32(0)}, "top_p should be above 0 and at most 1, not 0"),
        ({"top_k": 0}, "top_k should be a whole number, at least 1, not 0"),
        ({"length": 0}, "length should be a whole number, at least 1, not 0"),
        ({"prompt": BATCH.prompt[0]}, r"sample: prompt is int32 \[3\], and should be int \[B, P\]"),
    ],
)
def test_a_sampler_says_which_argument_is_out_of_its_range(change: Any, said: str) -> None:
    arguments = {"prompt": BATCH.prompt, "prompt_mask": BATCH.prompt_mask, "length": 3} | change
    with pytest.raises(ValueError, match=said):
        gg.sample(GENERATOR, state().generator.params, jax.random.key(0), **arguments)


@pytest.mark.parametrize("place", ["prompt", "target"])
@pytest.mark.parametrize("wrong", [7, -1])
def test_ids_outside_the_vocabulary_are_refused_where_they_are_known_and_count(place: str, wrong: int) -> None:
    ids, mask = getattr(BATCH, place), getattr(BATCH, f"{place}_mask")
    batch = BATCH.replace(**{place: jnp.where(mask, wrong, ids)})
    gan, params = gan_of(), state().generator.params
    calls = {
        f"{step}: batch.{place}": functools.partial(getattr(gan, step), state(), batch)
        for step in ("likelihood_step", "discriminator_step", "adversarial_step")
    }
    if place == "prompt":
        calls["sample: prompt"] = lambda: gg.sample(
            GENERATOR, params, jax.random.key(0), batch.prompt, batch.prompt_mask, 2
        )
    else:
        calls["log_probs: batch.target"] = lambda: gg.log_probs(GENERATOR, params, batch)
    for said, call in calls.items():
        with pytest.raises(ValueError, match=f"{said} holds the id {wrong}; the vocabulary's are 0 to 6"):
            call()
    padded = BATCH.replace(**{place: jnp.where(mask, ids, wrong)})
    if place == "target":
        assert jnp.isfinite(gg.log_probs(GENERATOR, params, padded)).all()
    jax.eval_shape(gan.likelihood_step, state(), batch)


@pytest.mark.thorough
def test_checked_finds_wrong_values_in_a_compiled_step_and_changes_nothing_else() -> None:
    gan = gan_of(generator_optimizer=optax.sgd(0.1), discriminator_optimizer=optax.sgd(0.1))
    begun, step = gan.begin(state(), BATCH), gg.checked(gan.adversarial_step, VOCABULARY)
    found, expected = step(begun, BATCH), jax.jit(gan.adversarial_step)(begun, BATCH)
    jax.tree.map(lambda a, b: jnp.allclose(a, b, rtol=1e-4) or pytest.fail("another result"), found[1], expected[1])
    for change, said in (
        ({"target": BATCH.target.at[0, 1].set(9)}, "batch.target holds the token id 9; the vocabulary's are 0 to 6"),
        ({"target_mask": BATCH.target_mask.at[0, 1].set(False)}, "target_mask has a hole"),
        ({"prompt_mask": BATCH.prompt_mask.at[1, 1].set(False)}, "prompt_mask has a hole"),
    ):
        with pytest.raises(ValueError, match=said):
            step(begun, BATCH.replace(**change))
    spoilt = begun.replace(
        generator=begun.generator.replace(params=jax.tree.map(lambda x: x * jnp.nan, state().generator.params))
    )
    with pytest.raises(ValueError, match="nan generated by primitive"):
        step(spoilt, BATCH)
