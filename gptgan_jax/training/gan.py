"""The functional loop: both players and their optimisers in one state, and three pure steps on it.

    gan = gan_from(generator, discriminator, estimator=reinforce(discount=0.23))
    state = gan.init(key, batch)
    state, metrics = jax.jit(gan.adversarial_step, donate_argnums=0)(state, batch)

Every step is (GanState, Batch) -> (GanState, metrics), where metrics are float32 scalars.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gptgan_jax.models.discriminators import Discriminator
from gptgan_jax.models.generators import Generator
from gptgan_jax.objectives.discrimination import PairLoss, non_saturating, pair_accuracy
from gptgan_jax.objectives.estimators import Estimator, reinforce
from gptgan_jax.objectives.likelihood import cross_entropy, entropy, kl_divergence, masked_mean, token_log_probs
from gptgan_jax.objectives.rewards import Reward, is_last, sigmoid
from gptgan_jax.sampling import sample, shape_logits
from gptgan_jax.types import Array, Batch, GanState, Params, Player, Sample, Scores

Metrics = dict[str, Array]
Step = Callable[[GanState, Batch], tuple[GanState, Metrics]]


class Gan(NamedTuple):
    """A generator, a discriminator and how they learn.

    Attributes:
        init: (key, batch) -> GanState with new parameters.
        begin: GanState -> GanState for a new phase: the same parameters, step and key; new optimiser states, estimator
            state and reference.
        likelihood_step: the generator learns the batch by maximum likelihood.
        discriminator_step: the generator writes as many texts as the batch has; the discriminator learns to tell them
            from the batch.
        adversarial_step: the same, and the generator learns from the judgement of the discriminator as it was before
            this step.
    """

    init: Callable[[Array, Batch], GanState]
    begin: Callable[[GanState], GanState]
    likelihood_step: Step
    discriminator_step: Step
    adversarial_step: Step


def gan_from(
    generator: Generator,
    discriminator: Discriminator,
    *,
    estimator: Estimator | None = None,
    pair_loss: PairLoss = non_saturating,
    reward: Reward = sigmoid,
    relative_reward: bool = False,
    dense: bool = True,
    temperature: float = 1.0,
    entropy_weight: float = 0.0,
    kl_weight: float = 0.0,
    generator_optimizer: optax.GradientTransformation | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
) -> Gan:
    """Puts the parts together.

    Args:
        generator, discriminator: the two players.
        estimator: of the generator's gradient; default: `reinforce()`.
        pair_loss: what the discriminator minimises.
        reward: from the discriminator's logits.
        relative_reward: take from each logit the real batch's mean at the same place first. Wanted where the pair loss
            fixes only differences, as `relativistic` does: the level of the logits then means nothing, and where texts
            may end it would pay for or against length.
        dense: judge and pay at every token; otherwise judge whole texts and pay at their last token.
        temperature: that the generator writes at while it trains; its gradient is of that same distribution.
        entropy_weight: nats of next-token entropy, summed over a text, added to the generator's objective by this much.
        kl_weight: weight of KL(generator || reference), summed over a text's tokens; the reference is the generator at
            the beginning of the phase. The gradients of both terms are those at the prefixes that were written; how a
            token changes the prefixes after it is left out.
        generator_optimizer, discriminator_optimizer: default: Adam at 1e-3 and 1e-3.

    Raises:
        ValueError: where the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature should be above 0 to train at, not {temperature}")
    estimator = estimator or reinforce()
    optimize_g = generator_optimizer or optax.adam(1e-3)
    optimize_d = discriminator_optimizer or optax.adam(1e-3)

    def init(key: Array, batch: Batch) -> GanState:
        key_g, key_d, key_steps = jax.random.split(key, 3)
        players = (Player(generator.init(key_g, batch), None), Player(discriminator.init(key_d, batch), None))
        return begin(GanState(jnp.int32(0), key_steps, *players, estimator=None, reference=None))

    def begin(state: GanState) -> GanState:
        params_g, params_d = state.generator.params, state.discriminator.params
        return GanState(
            step=state.step,
            key=state.key,
            generator=Player(params_g, optimize_g.init(params_g)),
            discriminator=Player(params_d, optimize_d.init(params_d)),
            estimator=estimator.init(),
            reference=jax.tree.map(jnp.copy, params_g) if kl_weight else None,
        )

    def likelihood_step(state: GanState, batch: Batch) -> tuple[GanState, Metrics]:
        dropout_key = jax.random.fold_in(state.key, state.step)

        def loss_of(params: Params) -> Array:
            return cross_entropy(generator.logits(params, batch, dropout_key), batch.target, batch.target_mask)

        loss, gradient = jax.value_and_grad(loss_of)(state.generator.params)
        metrics = {"loss": loss, "gradient_norm": optax.global_norm(gradient)}
        return state.replace(step=state.step + 1, generator=_update(optimize_g, state.generator, gradient)), metrics

    def discriminator_step(state: GanState, batch: Batch) -> tuple[GanState, Metrics]:
        key_sample, key_judge, _ = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
        written = write(state, batch, key_sample)
        gradient, _, metrics = judge(state, batch, written, key_judge)
        player = _update(optimize_d, state.discriminator, gradient)
        return state.replace(step=state.step + 1, discriminator=player), metrics

    def adversarial_step(state: GanState, batch: Batch) -> tuple[GanState, Metrics]:
        key_sample, key_judge, key_reward = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
        written = write(state, batch, key_sample)
        gradient_d, scores, metrics_d = judge(state, batch, written, key_judge)
        judged = scores.tokens if dense else jnp.broadcast_to(scores.sequence[:, None], written.mask.shape)
        rewards = reward(judged, written.mask, key_reward)
        if not dense:
            rewards = rewards * is_last(written.mask)
        gradient_g, (estimator_state, metrics_g) = jax.grad(generator_loss, has_aux=True)(
            state.generator.params, state, batch, written, rewards
        )
        metrics = metrics_d | metrics_g
        return (
            state.replace(
                step=state.step + 1,
                generator=_update(optimize_g, state.generator, gradient_g),
                discriminator=_update(optimize_d, state.discriminator, gradient_d),
                estimator=estimator_state,
            ),
            metrics | {"gradient_norm": optax.global_norm(gradient_g)},
        )

    def write(state: GanState, batch: Batch, key: Array) -> Sample:
        length = batch.target.shape[1]
        return sample(generator, state.generator.params, key, batch.prompt, batch.prompt_mask, length, temperature)

    def judge(state: GanState, batch: Batch, written: Sample, key: Array) -> tuple[Params, Scores, Metrics]:
        """The discriminator's gradient, and what the reward is made of: its scores, without dropout, of the texts."""
        fakes = batch.replace(target=written.tokens, target_mask=written.mask)
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), batch, fakes)

        def loss_of(params: Params) -> Array:
            real, fake = _halves(discriminator.scores(params, both, key))
            if dense:
                return pair_loss(real.tokens, batch.target_mask, fake.tokens, written.mask)
            whole = jnp.ones_like(real.sequence[:, None], dtype=bool)
            return pair_loss(real.sequence[:, None], whole, fake.sequence[:, None], whole)

        loss, gradient = jax.value_and_grad(loss_of)(state.discriminator.params)
        real, fake = _halves(discriminator.scores(state.discriminator.params, both))
        metrics = {
            "discriminator_loss": loss,
            "discriminator_accuracy": pair_accuracy(real.sequence, fake.sequence),
            "discriminator_gradient_norm": optax.global_norm(gradient),
            "length": written.mask.sum(axis=1).mean(),
            "real_length": batch.target_mask.sum(axis=1).mean(),
        }
        if relative_reward:
            fake = Scores(
                tokens=fake.tokens - _mean_by_position(real.tokens, batch.target_mask),
                sequence=fake.sequence - real.sequence.mean(),
            )
        return gradient, fake, metrics

    def generator_loss(
        params: Params, state: GanState, batch: Batch, written: Sample, rewards: Array
    ) -> tuple[Array, tuple[Any, Metrics]]:
        texts = batch.replace(target=written.tokens, target_mask=written.mask)
        logits = shape_logits(generator.logits(params, texts), temperature)
        log_probs = jnp.where(written.mask, token_log_probs(logits, written.tokens), 0.0)
        loss, (estimator_state, metrics) = estimator.loss(state.estimator, log_probs, written, rewards)
        count, tokens = written.mask.shape[0], written.mask.sum()
        entropy_sum = jnp.where(written.mask, entropy(logits), 0.0).sum()
        metrics |= {
            "surrogate_loss": loss,
            "reward": jnp.where(written.mask, rewards, 0.0).sum() / (tokens if dense else count),
            "entropy": entropy_sum / tokens,
        }
        loss = loss - entropy_weight * entropy_sum / count
        if kl_weight:
            reference = shape_logits(generator.logits(state.reference, texts), temperature)
            kl_sum = jnp.where(written.mask, kl_divergence(logits, reference), 0.0).sum()
            metrics["kl"] = kl_sum / tokens
            loss = loss + kl_weight * kl_sum / count
        return loss, (estimator_state, metrics)

    return Gan(init, begin, likelihood_step, discriminator_step, adversarial_step)


def _update(optimizer: optax.GradientTransformation, player: Player, gradient: Params) -> Player:
    updates, opt_state = optimizer.update(gradient, player.opt_state, player.params)
    return Player(optax.apply_updates(player.params, updates), opt_state)


def _halves(scores: Scores) -> tuple[Scores, Scores]:
    """Scores of the real and of the generated half of one forward pass."""
    half = scores.sequence.shape[0] // 2
    return jax.tree.map(lambda x: x[:half], scores), jax.tree.map(lambda x: x[half:], scores)


def _mean_by_position(values: Array, mask: Array) -> Array:
    """Mean over the rows that have a position, float32 [B, T] -> [T]; over everything where none has it."""
    counts = mask.sum(axis=0)
    means = jnp.where(mask, values, 0.0).sum(axis=0) / jnp.maximum(counts, 1)
    return jnp.where(counts > 0, means, masked_mean(values, mask))
