"""Our side of every case, through the public API."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gptgan_jax as gg
from benchmarks.sides import (
    CASES,
    PROTOCOL,
    PROTOCOL_DISCRIMINATOR_UPDATES,
    PROTOCOL_SHARE,
    ROLLOUTS_COMPARED,
    SAMPLING_ROWS,
    SAMPLING_TOKENS,
    Arrays,
    Side,
    config_of,
    flattened,
)
from gptgan_jax.config import Config, Phase
from gptgan_jax.config.estimators import build_estimator
from gptgan_jax.objectives.discrimination import build_pair_loss
from gptgan_jax.objectives.rewards import build_reward
from gptgan_jax.training.phases import build_gan, step_of


class Parts(NamedTuple):
    config: Config
    generator: gg.Generator
    discriminator: gg.Discriminator
    batch: gg.Batch


def side(case: str, config: Config | None = None) -> Side:
    """Our side of a case, with weights and text from a fixed key; `config` replaces the case's."""
    return _SIDES[case](build_parts(config or config_of(case)))


def compile_only(case: str, config: Config | None = None) -> dict[str, Any]:
    """Compiles the same step that is timed elsewhere, only from shapes: seconds, and bytes by XLA's memory analysis."""
    parts = build_parts(config or config_of(case))
    gan, step = _step(parts, CASES[case].phase)
    state = jax.eval_shape(gan.init, jax.random.key(0), parts.batch)
    begin = time.perf_counter()
    stats = step.lower(state, parts.batch).compile().memory_analysis()
    return {
        "seconds": time.perf_counter() - begin,
        "arguments": stats.argument_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "outputs": stats.output_size_in_bytes - stats.alias_size_in_bytes,
        "code": stats.generated_code_size_in_bytes,
    }


def build_parts(config: Config) -> Parts:
    # As the oracle's: every text fills its row, and starts from token 0.
    assert config.vocab_size is not None
    vocabulary = gg.Vocabulary(config.vocab_size, pad_id=0, bos_id=0, eos_id=None)
    rows, length = config.batch_size("adversarial"), config.data.max_length
    text = jax.random.randint(jax.random.key(1), (rows, length), 0, vocabulary.size)
    return Parts(
        config,
        gg.build_generator(config.generator, vocabulary),
        gg.build_discriminator(config.discriminator, vocabulary),
        gg.unconditional_batch(text, vocabulary),
    )


def _gradient_keeper() -> optax.GradientTransformation:
    """Makes no update and stores the gradient in its state, so that it can be compared."""

    def init(params: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, params)

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(jnp.zeros_like, gradient), gradient

    return optax.GradientTransformation(init, update)


def _text_keeper(estimator: gg.PolicyGradient) -> gg.PolicyGradient:
    """The same estimator, whose state also holds the texts: in bfloat16 another program would sample different ones."""

    def advantages(state: Any, experience: Any) -> tuple[jax.Array, Any, dict[str, jax.Array]]:
        found, state, metrics = estimator.advantages(state[0], experience)
        return found, (state, experience.sample), metrics

    return estimator._replace(init=lambda width: (estimator.init(width), None), advantages=advantages)


def observe(parts: Parts, phase: Phase) -> gg.Gan:
    """The loop of a phase whose optimisers store the gradients, and whose estimator stores the texts."""
    objective = parts.config.objective
    estimator = build_estimator(objective.estimator, parts.config.steps(phase))
    assert isinstance(estimator, gg.PolicyGradient)
    return gg.gan_from(
        parts.generator,
        parts.discriminator,
        estimator=_text_keeper(estimator),
        pair_loss=build_pair_loss(objective.pair_loss, 0.0),
        reward=build_reward(objective.reward, getattr(objective.estimator, "discount", 1.0)),
        dense=objective.dense,
        generator_optimizer=_gradient_keeper(),
        discriminator_optimizer=_gradient_keeper(),
    )


def _step(parts: Parts, phase: Phase) -> tuple[gg.Gan, Any]:
    """The loop of a phase, and its step compiled as in a run."""
    gan = build_gan(parts.config, phase, parts.generator, parts.discriminator)
    return gan, jax.jit(step_of(gan, phase), donate_argnums=0)


def _stepping(parts: Parts, phase: Phase) -> tuple[Callable[[], gg.GanState], Callable[[], None]]:
    """Functions that return the first state of a phase and that run a step.

    The first state is created anew on each call, so memory is that of one state while steps are timed.
    """
    gan, step = _step(parts, phase)
    init = functools.partial(gan.init, jax.random.key(0), parts.batch)
    held = [init()]

    def run() -> None:
        held[0], metrics = step(held[0], parts.batch)
        jax.block_until_ready((held[0], metrics))

    return functools.cache(init), run


def _likelihood(parts: Parts) -> Side:
    first, run = _stepping(parts, "likelihood")

    def outputs() -> Arrays:
        gan, state = observe(parts, "likelihood"), first()
        after, metrics = jax.jit(gan.likelihood_step)(gan.begin(state, parts.batch), parts.batch)
        logits = jax.jit(parts.generator.logits)(state.generator.params, parts.batch)
        gradient = flattened(after.generator.opt_state, "gradient/")
        return {"logits": np.asarray(logits), "loss": np.asarray(metrics["loss"]), **gradient}

    def given() -> Arrays:
        return {"text": np.asarray(parts.batch.target), **flattened(first().generator.params, "generator/")}

    return Side(run, outputs, given)


def _sampling(parts: Parts) -> Side:
    generator = parts.generator
    params = generator.init(jax.random.key(0), parts.batch)
    # Larger weights than at the start of training, so that greedy choices do not depend on rounding.
    params = jax.tree.map(lambda x: 3 * x if x.ndim > 1 else x, params)
    prompt = jax.random.randint(jax.random.key(2), (SAMPLING_ROWS, 1), 0, generator.vocabulary.size)
    mask = jnp.ones(prompt.shape, bool)

    @jax.jit
    def compiled(params: gg.Params, key: jax.Array, temperature: jax.Array) -> gg.Sample:
        return gg.sample(generator, params, key, prompt, mask, SAMPLING_TOKENS, temperature)

    write = functools.partial(compiled, params)  # as constants, the compiler could change the layout of the weights
    keys = [jax.random.key(3)]

    def run() -> None:
        keys[0] = jax.random.fold_in(keys[0], 1)
        jax.block_until_ready(write(keys[0], jnp.float32(1)))

    drawn = write(jax.random.key(3), jnp.float32(1))

    def outputs() -> Arrays:
        greedy = write(jax.random.key(3), jnp.float32(0))
        return {"greedy": np.asarray(greedy.tokens), "log_probs": np.asarray(drawn.log_probs)}

    given = {"prompt": np.asarray(prompt), "drawn": np.asarray(drawn.tokens), **flattened(params, "generator/")}
    return Side(run, outputs, lambda: given)


def _adversarial(parts: Parts) -> Side:
    first, run = _stepping(parts, "adversarial")
    batch = parts.batch

    @functools.cache
    def observed() -> tuple[gg.GanState, dict[str, jax.Array]]:
        gan = observe(parts, "adversarial")
        return jax.jit(gan.adversarial_step)(gan.begin(first(), batch), batch)

    def written() -> gg.Sample:
        return observed()[0].estimator[1]

    def outputs() -> Arrays:
        after, metrics = observed()
        found = {
            "discriminator_loss": np.asarray(metrics["discriminator_loss"]),
            **flattened(after.discriminator.opt_state, "discriminator_gradient/"),
        }
        if parts.config.objective.dense:
            return found | flattened(after.generator.opt_state, "generator_gradient/")
        # Each side draws its own rollouts, so only the means of their values are compared.
        logits = jax.jit(parts.generator.logits)(first().generator.params, batch.replace(target=written().tokens))
        return found | {"logits": np.asarray(logits), "values~": np.asarray(values())}

    def values() -> jax.Array:
        def value(_: jax.Array, tokens: jax.Array, mask: jax.Array, shared: int) -> jax.Array:
            texts = jax.tree.map(lambda x: jnp.repeat(x, ROLLOUTS_COMPARED, axis=0), batch)
            scores = parts.discriminator.scores(
                first().discriminator.params, texts.replace(target=tokens, target_mask=mask)
            )
            return 2 * jax.nn.sigmoid(scores.sequence) - 1

        return gg.rollout_values(
            parts.generator,
            first().generator.params,
            jax.random.key(5),
            batch.prompt,
            batch.prompt_mask,
            written(),
            ROLLOUTS_COMPARED,
            value,
        )

    def given() -> Arrays:
        return {
            "text": np.asarray(batch.target),
            "written": np.asarray(written().tokens),
            **flattened(first().generator.params, "generator/"),
            **flattened(first().discriminator.params, "discriminator/"),
        }

    return Side(run, outputs, given)


def _discriminator(parts: Parts) -> Side:
    return _adversarial(parts)._replace(run=_stepping(parts, "warmup")[1])


def _protocol(parts: Parts) -> Side:
    """Likelihood, then the discriminator, then both, on batches drawn from a key."""
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


def _texts(parts: Parts, count: int) -> jax.Array:
    """Texts for `count` batches, int32 [count, B, T]."""
    shape = count, *parts.batch.target.shape
    return jax.random.randint(jax.random.key(7), shape, 0, parts.generator.vocabulary.size)


_SIDES: dict[str, Callable[[Parts], Side]] = {
    "likelihood": _likelihood,
    "sampling": _sampling,
    "generate": _sampling,
    "adversarial_transformer": _adversarial,
    "adversarial_cnn": _adversarial,
    "gpt2_likelihood": _likelihood,
    "gpt2_adversarial": _adversarial,
    "seqgan": _adversarial,
    "discriminator": _discriminator,
    "protocol": _protocol,
}
