"""Our side of every case, through the public API."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gptgan_jax as gg
from benchmarks.sides import (
    CASES,
    FOLDER,
    PROTOCOL,
    PROTOCOL_DISCRIMINATOR_UPDATES,
    PROTOCOL_SHARE,
    ROLLOUTS_COMPARED,
    SAMPLING_ROWS,
    SAMPLING_TOKENS,
    VOCABULARY_SIZE,
    Arrays,
    Side,
    flattened,
)
from gptgan_jax.config import Config, Phase
from gptgan_jax.config_files import load_config
from gptgan_jax.objectives.discrimination import build_pair_loss
from gptgan_jax.objectives.estimator_configs import build_estimator
from gptgan_jax.objectives.rewards import build_reward
from gptgan_jax.training.phases import build_gan, step_of


class _Parts(NamedTuple):
    config: Config
    generator: gg.Generator
    discriminator: gg.Discriminator
    batch: gg.Batch


def side(case: str) -> Side:
    """Our side of a case, with weights and text made from a fixed key."""
    return _SIDES[case](_parts(case))


def _parts(case: str) -> _Parts:
    config = load_config(FOLDER / CASES[case].config)
    # The oracle's: every text fills its row, and starts from token 0.
    vocabulary = gg.Vocabulary(VOCABULARY_SIZE, pad_id=0, bos_id=0, eos_id=None)
    rows, length = config.batch_size("adversarial"), config.data.max_length
    text = jax.random.randint(jax.random.key(1), (rows, length), 0, vocabulary.size)
    return _Parts(
        config,
        gg.build_generator(config.generator, vocabulary),
        gg.build_discriminator(config.discriminator, vocabulary),
        gg.unconditional_batch(text, vocabulary),
    )


def _gradient_keeper() -> optax.GradientTransformation:
    """Changes nothing and keeps the gradient as its state, so that it can be compared."""

    def init(params: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, params)

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(jnp.zeros_like, gradient), gradient

    return optax.GradientTransformation(init, update)


def _observed(parts: _Parts, phase: Phase) -> gg.Gan:
    """The loop of a phase whose optimisers keep the gradients."""
    objective = parts.config.objective
    return gg.gan_from(
        parts.generator,
        parts.discriminator,
        estimator=build_estimator(objective.estimator, parts.config.steps(phase)),
        pair_loss=build_pair_loss(objective.pair_loss, 0.0),
        reward=build_reward(objective.reward, getattr(objective.estimator, "discount", 1.0)),
        dense=objective.dense,
        generator_optimizer=_gradient_keeper(),
        discriminator_optimizer=_gradient_keeper(),
    )


def _stepping(parts: _Parts, phase: Phase) -> tuple[gg.GanState, Callable[[], None]]:
    """The first state of a phase, and what makes a step of it."""
    gan = build_gan(parts.config, phase, parts.generator, parts.discriminator)
    state = gan.init(jax.random.key(0), parts.batch)
    step = jax.jit(step_of(gan, phase), donate_argnums=0)
    held = [jax.tree.map(jnp.copy, state)]

    def run() -> None:
        held[0], metrics = step(held[0], parts.batch)
        jax.block_until_ready((held[0], metrics))

    return state, run


def _likelihood(parts: _Parts) -> Side:
    state, run = _stepping(parts, "likelihood")

    def outputs() -> Arrays:
        gan = _observed(parts, "likelihood")
        after, metrics = jax.jit(gan.likelihood_step)(gan.begin(state, parts.batch), parts.batch)
        logits = jax.jit(parts.generator.logits)(state.generator.params, parts.batch)
        gradient = flattened(after.generator.opt_state, "gradient/")
        return {"logits": np.asarray(logits), "loss": np.asarray(metrics["loss"]), **gradient}

    given = {"text": np.asarray(parts.batch.target), **flattened(state.generator.params, "generator/")}
    return Side(run, outputs, given)


def _sampling(parts: _Parts) -> Side:
    generator = parts.generator
    params = generator.init(jax.random.key(0), parts.batch)
    # Larger weights than at the start of training, so that greedy choices are not a matter of rounding.
    params = jax.tree.map(lambda x: 3 * x if x.ndim > 1 else x, params)
    prompt = jax.random.randint(jax.random.key(2), (SAMPLING_ROWS, 1), 0, VOCABULARY_SIZE)
    mask = jnp.ones(prompt.shape, bool)

    @jax.jit
    def write(key: jax.Array, temperature: jax.Array) -> gg.Sample:
        return gg.sample(generator, params, key, prompt, mask, SAMPLING_TOKENS, temperature)

    keys = [jax.random.key(3)]

    def run() -> None:
        keys[0] = jax.random.fold_in(keys[0], 1)
        jax.block_until_ready(write(keys[0], jnp.float32(1)))

    drawn = write(jax.random.key(3), jnp.float32(1))

    def outputs() -> Arrays:
        greedy = write(jax.random.key(3), jnp.float32(0))
        return {"greedy": np.asarray(greedy.tokens), "log_probs": np.asarray(drawn.log_probs)}

    given = {"prompt": np.asarray(prompt), "drawn": np.asarray(drawn.tokens), **flattened(params, "generator/")}
    return Side(run, outputs, given)


def _adversarial(parts: _Parts) -> Side:
    state, run = _stepping(parts, "adversarial")
    # The texts that the step writes: by the first of the keys that it splits.
    key = jax.random.split(jax.random.fold_in(state.key, state.step), 4)[0]
    batch, length = parts.batch, parts.batch.target.shape[1]
    params = state.generator.params
    written = gg.sample(parts.generator, params, key, batch.prompt, batch.prompt_mask, length)

    def outputs() -> Arrays:
        gan = _observed(parts, "adversarial")
        after, metrics = jax.jit(gan.adversarial_step)(gan.begin(state, batch), batch)
        found = {
            "discriminator_loss": np.asarray(metrics["discriminator_loss"]),
            **flattened(after.discriminator.opt_state, "discriminator_gradient/"),
        }
        if parts.config.objective.dense:
            return found | flattened(after.generator.opt_state, "generator_gradient/")
        # Rollouts are drawn anew by each side, so their values are compared in the mean.
        logits = jax.jit(parts.generator.logits)(params, batch.replace(target=written.tokens))
        return found | {"logits": np.asarray(logits), "values~": np.asarray(values())}

    def values() -> jax.Array:
        def value(_: jax.Array, tokens: jax.Array, mask: jax.Array, shared: int) -> jax.Array:
            texts = jax.tree.map(lambda x: jnp.repeat(x, ROLLOUTS_COMPARED, axis=0), batch)
            scores = parts.discriminator.scores(
                state.discriminator.params, texts.replace(target=tokens, target_mask=mask)
            )
            return 2 * jax.nn.sigmoid(scores.sequence) - 1

        return gg.rollout_values(
            parts.generator,
            params,
            jax.random.key(5),
            batch.prompt,
            batch.prompt_mask,
            written,
            ROLLOUTS_COMPARED,
            value,
        )

    given = {
        "text": np.asarray(batch.target),
        "written": np.asarray(written.tokens),
        **flattened(params, "generator/"),
        **flattened(state.discriminator.params, "discriminator/"),
    }
    return Side(run, outputs, given)


def _discriminator(parts: _Parts) -> Side:
    return _adversarial(parts)._replace(run=_stepping(parts, "warmup")[1])


def _protocol(parts: _Parts) -> Side:
    """Likelihood, then the discriminator, then both, on batches that a key draws."""
    step_side = _adversarial(parts)
    updates = PROTOCOL_DISCRIMINATOR_UPDATES
    adversarial = dataclasses.replace(parts.config.adversarial, discriminator_updates=updates)
    config = dataclasses.replace(parts.config, adversarial=adversarial)
    texts = [gg.unconditional_batch(text, parts.generator.vocabulary) for text in _texts(parts, updates)]
    phases: list[tuple[Phase, list[gg.Batch]]] = [
        ("likelihood", texts),
        ("warmup", texts),
        ("adversarial", [jax.tree.map(lambda *x: jnp.concatenate(x), *texts)]),
    ]

    def run() -> None:
        state = None
        for phase, batches in phases:
            gan = build_gan(config, phase, parts.generator, parts.discriminator)
            state = gan.init(jax.random.key(0), parts.batch) if state is None else gan.begin(state, parts.batch)
            step = jax.jit(step_of(gan, phase), donate_argnums=0)
            for i in range(PROTOCOL[phase] // PROTOCOL_SHARE):
                state, _ = step(state, batches[i % len(batches)])
        jax.block_until_ready(state)

    return Side(run, step_side.outputs, step_side.given)


def _texts(parts: _Parts, count: int) -> jax.Array:
    """Texts for so many batches, int32 [count, B, T]."""
    shape = count, *parts.batch.target.shape
    return jax.random.randint(jax.random.key(7), shape, 0, parts.generator.vocabulary.size)


_SIDES: dict[str, Callable[[_Parts], Side]] = {
    "likelihood": _likelihood,
    "sampling": _sampling,
    "generate": _sampling,
    "adversarial_transformer": _adversarial,
    "adversarial_cnn": _adversarial,
    "seqgan": _adversarial,
    "discriminator": _discriminator,
    "protocol": _protocol,
}
