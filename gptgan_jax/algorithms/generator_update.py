"""The generator's side of a step: its update by each family of estimators."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gptgan_jax.algorithms.discriminator_update import counted
from gptgan_jax.algorithms.game import Game
from gptgan_jax.algorithms.learning import gradient_of, updated, where_learning
from gptgan_jax.algorithms.mixing import with_demonstrations
from gptgan_jax.algorithms.regularisation import regularised, shaped_logits, with_kl_penalty, with_likelihood
from gptgan_jax.algorithms.seqgan import rollout_rewards
from gptgan_jax.algorithms.texts import (
    Drawn,
    Metrics,
    answering,
    dull_groups,
    shape_metrics,
    with_prompts_once,
    write,
)
from gptgan_jax.gradients.families import (
    Distillation,
    Experience,
    Mediated,
    Pathwise,
    PolicyGradient,
    SelfPlay,
)
from gptgan_jax.layers.chunked_likelihood import Teacher, weighted_divergence, weighted_top_k_divergence
from gptgan_jax.layers.dense import DTYPES
from gptgan_jax.objectives.likelihood import token_log_probs
from gptgan_jax.objectives.rewards import Judgement, is_last
from gptgan_jax.objectives.text_rewards import Pay, combined, text_totals
from gptgan_jax.objectives.windows import at_ends
from gptgan_jax.sampling.decoding import log_probs
from gptgan_jax.types import Array, Batch, GanState, Guidance, Params, Player, PyTree, Sample, Scores, TopK

Update = tuple[Player, PyTree, Metrics]

# ---- policy gradients


def policy_update(
    game: Game,
    estimator: PolicyGradient,
    state: GanState,
    batch: Batch,
    drawn: Drawn,
    judgement: Judgement,
    key: Array,
    real: Batch | None = None,
) -> Update:
    """Updates the generator from rewards: (player, estimator's state, metrics).

    Rewards, advantages and losses are of all rows; networks run on this program's own rows. `real` are this program's
    real texts, if they are not those of the batch.
    """
    real = batch if real is None else real
    key_reward, key_rollout, key_rows, key_order = jax.random.split(key, 4)
    rows, params, written = game.rows, state.generator.params, drawn.written
    rewards = game.pay(judgement, key_reward)
    if estimator.rollouts:
        rewards = rows.gathered(
            rollout_rewards(game, estimator.rollouts, state, batch, written, judgement, key_rollout)
        )
    batch, written = rows.gathered((batch, written))
    if not game.pays_values and not game.dense:
        rewards = rewards * is_last(written.mask)
    metrics = {"reward": _mean_pay(game, rewards, judgement.fake_mask if game.discriminator.window else written.mask)}
    if game.discriminator.window:
        rewards = at_ends(rewards, written.mask, game.discriminator.window)
    if game.text_rewards:
        rewards, found = with_text_rewards(game, state, rewards, drawn)
        metrics |= found
    if game.demonstrations is not None:
        written, rewards, metrics["demonstrations"] = with_demonstrations(
            game, state, batch, written, rewards, key_rows
        )
    texts = answering(batch, written)
    own = rows.own(with_prompts_once(game, texts))
    was = jax.lax.stop_gradient(rows.gathered(log_probs(game.generator, params, own, game.temperature)))
    rewards = with_kl_penalty(game, state, rewards, own, written.mask, was)
    hidden = jax.lax.stop_gradient(rows.gathered(game.generator.hidden(params, own)))
    guidance = jax.lax.stop_gradient(_guidance(game, estimator, params, own))
    experience = Experience(written.replace(log_probs=was), rewards, hidden, game.samples, guidance)
    advantages, estimator_state, found = estimator.advantages(state.estimator, experience)
    player, of_updates = _updates(
        game, estimator, state, experience, jax.lax.stop_gradient(advantages), texts, real, key_order
    )
    return player, estimator_state, found | of_updates | metrics


def _guidance(game: Game, estimator: PolicyGradient, params: Params, own: Batch) -> Guidance | None:
    """What became of the goals in all rows, if the estimator asks."""
    if not estimator.guided:
        return None
    assert game.generator.guidance is not None
    return game.rows.gathered(game.generator.guidance(params, own))


def with_text_rewards(game: Game, state: GanState, rewards: Array, drawn: Drawn) -> tuple[Array, Metrics]:
    """The total reward of each token, and the mean of each text reward.

    Args:
        game, state: of the step.
        rewards: the discriminator's, float32 [R, T], of all rows.
        drawn: this program's own texts, with their text rewards.
    """
    drawn = Drawn(*game.rows.gathered(drawn[:2]), drawn.again)
    mask, found = drawn.written.mask, list(zip(game.text_rewards, drawn.rewards, strict=True))
    metrics = {
        f"reward/{reward.name}": (paid if paid.ndim == 1 else text_totals(paid, mask)).mean() for reward, paid in found
    }
    if game.samples > 1 and any(reward.is_paid for reward in game.text_rewards):
        metrics["groups_without_signal"] = dull_groups(game, drawn).mean()
    if drawn.again is not None:
        metrics["drawn_again"] = drawn.again.astype(jnp.float32)
    pay = Pay(rewards, mask, game.samples, game.pays_values, game.dense)
    made = state.step - state.begun
    return combined(pay, found, made, game.reward_scaling, game.discriminator_reward_weight), metrics


def _mean_pay(game: Game, rewards: Array, mask: Array) -> Array:
    """The mean reward per token or window with dense rewards, otherwise per text."""
    paid = jnp.where(mask, rewards, 0.0).sum()
    return paid / (mask.sum() if game.dense or game.pays_values else mask.shape[0])


def _updates(
    game: Game,
    estimator: PolicyGradient,
    state: GanState,
    experience: Experience,
    advantages: Array,
    texts: Batch,
    real: Batch,
    key: Array,
) -> tuple[Player, Metrics]:
    """One update from all texts of a step, or several passes over them in minibatches."""
    rows = game.rows

    def loss_of(params: Params, part: Experience, advantages: Array, texts: Batch) -> tuple[Array, Metrics]:
        own = rows.own(texts)
        logits = shaped_logits(game, params, own)
        chosen = jnp.where(own.target_mask, token_log_probs(logits, own.target), 0.0)
        part = part._replace(guidance=_guidance(game, estimator, params, own))
        surrogate = estimator.loss(rows.gathered(chosen), part, advantages)
        extra, metrics = regularised(game, params, state.reference, logits, chosen, own, real)
        return surrogate + extra, metrics | {"surrogate_loss": surrogate}

    def update(player: Player, part: Experience, advantages: Array, texts: Batch) -> tuple[Player, Metrics]:
        return _followed(game, player, loss_of, part, advantages, texts)

    if estimator.epochs * estimator.minibatches == 1:
        return update(state.generator, experience, advantages, with_prompts_once(game, texts))
    count = experience.sample.mask.shape[0]
    orders = jax.vmap(lambda key: jax.random.permutation(key, count))(jax.random.split(key, estimator.epochs)).reshape(
        estimator.epochs * estimator.minibatches, -1
    )
    arrays = experience.sample, experience.rewards, experience.hidden, advantages, texts

    def one(player: Player, chosen: Array) -> tuple[Player, Metrics]:
        sample, paid, states, weights, some = jax.tree.map(lambda x: jnp.take(x, chosen, axis=0), arrays)
        return update(player, Experience(sample, paid, states, game.samples), weights, some)

    player, found = jax.lax.scan(one, state.generator, orders)
    return player, jax.tree.map(lambda x: x.mean(axis=0), found)


def matching_step(
    game: Game,
    estimator: PolicyGradient,
    state: GanState,
    batch: Batch,
    key_sample: Array,
    key_learn: Array,
) -> tuple[GanState, Metrics]:
    """Rewards the generator by features from its reference, a frozen copy of itself, without a discriminator."""
    matching = estimator.matching
    assert matching is not None
    stretches = matching.stretches(batch.replace(rows=None))
    counts = stretches.target_mask.any(axis=1)
    written = write(game, state.generator.params, stretches, key_sample)
    written = written.replace(mask=written.mask & jnp.repeat(counts, game.samples)[:, None])

    def features(texts: Batch) -> Array:
        assert game.generator.depths is not None
        states = game.generator.depths(state.reference, texts)
        layers = [max(round(depth * states.shape[1]), 1) - 1 for depth in matching.depths]
        return game.rows.gathered(jnp.stack([states[:, layer] for layer in dict.fromkeys(layers)], axis=1))

    gathered = game.rows.gathered(counts)
    paid, metrics = matching.pay(features(answering(stretches, written)), features(stretches), gathered)
    real = jnp.zeros((len(gathered), 1))
    score = paid[:, None]
    judgement = Judgement(score, jnp.ones_like(score, dtype=bool), real, jnp.ones_like(real, dtype=bool))
    player, estimator_state, found = policy_update(
        game, estimator, state, stretches, Drawn(written), judgement, key_learn, batch
    )
    metrics |= found | shape_metrics(game, stretches, written)
    return state.replace(generator=player, estimator=estimator_state), metrics


# ---- pathwise


def pathwise_update(
    game: Game, estimator: Pathwise, state: GanState, batch: Batch, written: Sample, judgement: Judgement, key: Array
) -> Update:
    """Updates the generator with the gradient of the discriminator's score of relaxed texts."""
    key_relax, key_reward = jax.random.split(key)
    rows, texts = game.rows, answering(batch, written)
    key_relax = rows.own_key(key_relax)

    def loss_of(params: Params) -> tuple[Array, Metrics]:
        logits = shaped_logits(game, params, texts)
        weights = estimator.relax(state.estimator, key_relax, logits, texts.target)
        discriminator, scorer = game.discriminator, state.discriminator.params
        scores: Scores = discriminator.judge(scorer, discriminator.embed(scorer, texts, weights), texts)
        mask = judgement.fake_mask if game.dense else jnp.ones_like(judgement.fake_mask[:, :1])
        values, _ = counted(game, scores, texts.target_mask)
        fake, features, classes = rows.gathered((values, scores.features, scores.classes))
        relaxed = judgement._replace(fake=fake, fake_features=features, fake_classes=classes)
        rewards = game.pay(relaxed, key_reward)
        paid = jnp.where(mask, rewards, 0.0).sum()
        loss = -paid / mask.shape[0]
        chosen = jnp.where(texts.target_mask, token_log_probs(logits, texts.target), 0.0)
        extra, metrics = regularised(game, params, state.reference, logits, chosen, texts, batch)
        return loss + extra, metrics | {"surrogate_loss": loss, "reward": paid / mask.sum()}

    player, metrics = _followed(game, state.generator, loss_of)
    estimator_state, more = estimator.advance(state.estimator)
    return player, estimator_state, metrics | more


# ---- mediated


def mediated_update(game: Game, estimator: Mediated, state: GanState, batch: Batch, written: Sample) -> Update:
    """Updates the generator with its loss against the mediator's next-token probabilities at its own prefixes."""
    rows, texts = game.rows, answering(batch, written)
    assert game.discriminator.next_logits is not None
    mediator = game.discriminator.next_logits(state.discriminator.params, texts)

    def loss_of(params: Params) -> tuple[Array, Metrics]:
        logits = shaped_logits(game, params, texts)
        loss, metrics = estimator.loss(*rows.gathered((logits, mediator, texts.target, texts.target_mask)))
        chosen = jnp.where(texts.target_mask, token_log_probs(logits, texts.target), 0.0)
        extra, more = regularised(game, params, state.reference, logits, chosen, texts, batch)
        return loss + extra, metrics | more | {"surrogate_loss": loss}

    player, metrics = _followed(game, state.generator, loss_of)
    return player, state.estimator, metrics


# ---- self-play


def self_play_step(
    game: Game, estimator: SelfPlay, state: GanState, batch: Batch, key: Array
) -> tuple[GanState, Metrics]:
    """Trains the generator to prefer real text to that of its reference, without a discriminator."""
    estimator_state, renew = estimator.refresh(state.estimator)
    learns = game.learning.generator
    reference = where_learning(
        lambda old, new: jnp.where(renew, new, old), learns, state.reference, state.generator.params
    )
    texts, shapes_found = batch, {}
    if estimator.writes:
        written = write(game, reference, batch, key)
        texts = answering(batch, written)
        # These are of the reference's texts: the generator itself generates none here.
        shapes = shape_metrics(game, batch, written).items()
        shapes_found = {name if name.startswith("real_") else f"reference_{name}": x for name, x in shapes}

    def of_texts(params: Params, texts: Batch) -> Array:
        return game.rows.gathered(log_probs(game.generator, params, texts, game.temperature).sum(axis=1))

    of_reference = of_texts(reference, batch), of_texts(reference, texts)

    def loss_of(params: Params) -> tuple[Array, Metrics]:
        log_ps = of_texts(params, batch), of_reference[0], of_texts(params, texts), of_reference[1]
        loss, metrics = estimator.loss(*log_ps)
        return loss, metrics | {"loss": loss}

    player, metrics = _followed(game, state.generator, loss_of)
    metrics |= shapes_found
    return state.replace(generator=player, estimator=estimator_state, reference=reference), metrics


# ---- distillation


def distillation_step(
    game: Game, estimator: Distillation, state: GanState, batch: Batch, key_sample: Array, key_rows: Array
) -> tuple[GanState, Metrics]:
    """Trains the generator on its teacher's next-token distributions, on its own texts or real ones.

    Without a teacher the batch holds its most likely tokens on real texts.
    """
    rows, teacher, temperature = game.rows, game.teacher, game.temperature
    if isinstance(temperature, jax.Array):
        raise TypeError("in distillation temperature is compiled into the program and can't be traced: give a number")
    top_k, batch = batch.top_k, batch.replace(rows=None, top_k=None)
    texts, metrics = batch, {}
    if estimator.on_policy:
        written = write(game, state.generator.params, batch, key_sample)
        texts, metrics = answering(batch, written), shape_metrics(game, batch, written)
    if 0 < estimator.on_policy < 1:
        own = rows.uniform(key_rows, (batch.target.shape[0],)) < estimator.on_policy
        texts = jax.tree.map(lambda new, old: jnp.where(own.reshape(-1, *[1] * (new.ndim - 1)), new, old), texts, batch)
    mask = rows.gathered(texts.target_mask)
    theirs: Teacher | TopK | None = top_k
    if teacher is not None:
        assert teacher.output is not None
        of_teacher = jax.lax.stop_gradient((teacher.hidden(state.teacher, texts), *teacher.output(state.teacher)))
        theirs = Teacher(*of_teacher, DTYPES[getattr(teacher.config, "dtype", "float32")])
    assert theirs is not None

    def loss_of(params: Params) -> tuple[Array, Metrics]:
        assert game.generator.output is not None
        ours = game.generator.hidden(params, texts), *game.generator.output(params)
        weights = texts.target_mask.astype(jnp.float32)
        dtype = DTYPES[getattr(game.generator.config, "dtype", "float32")]
        if isinstance(theirs, TopK):
            own = weighted_top_k_divergence(*ours, theirs, weights, estimator.beta, dtype)
        else:
            own = weighted_divergence(*ours, theirs, weights, estimator.beta, temperature, dtype)
        total = rows.gathered(own[None]).sum()
        likelihood, found = with_likelihood(game, params, batch)
        loss = total / mask.shape[0] + likelihood
        return loss, found | {"loss": loss, "divergence": total / jnp.maximum(mask.sum(), 1)}

    player, found = _followed(game, state.generator, loss_of)
    return state.replace(generator=player), metrics | found


# ---- all of them


def _followed(
    game: Game, player: Player, loss_of: Callable[..., tuple[Array, Metrics]], *arguments: Any
) -> tuple[Player, Metrics]:
    """The generator after one update with a loss of (params, *arguments), and the loss's metrics over all devices."""
    learns = game.learning.generator
    (_, metrics), gradient = gradient_of(loss_of, player.params, learns, *arguments, has_aux=True)
    gradient, metrics = game.rows.mean((gradient, metrics))
    player = updated(game.generator_optimizer, player, gradient, learns)
    return player, metrics | {"gradient_norm": optax.tree.norm(gradient)}


def averaged(game: Game, state: GanState) -> GanState:
    """The state with the generator's average updated; its decay is ramped up so that the start has little weight.

    Frozen parameters in it stay the same bit for bit.
    """
    player = state.generator
    if player.ema is None:
        return state
    made = (state.step - state.begun).astype(jnp.float32)
    decay = jnp.minimum(game.ema_decay, made / (made + 9))
    ema = where_learning(
        lambda old, new: old + (1 - decay) * (new - old), game.learning.generator, player.ema, player.params
    )
    return state.replace(generator=player.replace(ema=ema))


def leaked(game: Game, state: GanState) -> GanState:
    """The state with a generator that reads the features of the discriminator as it now is, if it reads any."""
    if (leak := game.generator.leak) is None:
        return state
    player, scorer = state.generator, state.discriminator.params
    ema = None if player.ema is None else leak(player.ema, scorer)
    return state.replace(generator=player.replace(params=leak(player.params, scorer), ema=ema))
