"""The generator's side of a step: its update by each family of estimators."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from gptgan_jax.objectives.estimators import Experience, Pathwise, PolicyGradient, SelfPlay
from gptgan_jax.objectives.likelihood import entropy, kl_divergence, token_log_probs
from gptgan_jax.objectives.rewards import Judgement, is_last
from gptgan_jax.sampling import log_probs, rollout_values, shape_logits
from gptgan_jax.training.discriminating import Metrics, answering, repeated, shape_metrics, write
from gptgan_jax.training.game import Game
from gptgan_jax.training.learning import gradient_of, updated, where_learning
from gptgan_jax.types import Array, Batch, GanState, Params, Player, PyTree, Sample, Scores

Update = tuple[Player, PyTree, Metrics]

STRETCHES = 4
"""Of texts whose continuations are judged: with 4, 57 in 100 of their tokens are read, with any number 50 or more."""


# ---- policy gradients


def policy_update(
    game: Game,
    estimator: PolicyGradient,
    state: GanState,
    batch: Batch,
    written: Sample,
    judgement: Judgement,
    key: Array,
) -> Update:
    """The generator learns from rewards: (player, estimator's state, metrics).

    Rewards, advantages and losses are of all rows; networks run on this program's own.
    """
    key_reward, key_rollout, key_rows, key_order = jax.random.split(key, 4)
    params, rows, learns = state.generator.params, game.rows, game.learning.generator
    rewards = game.reward(judgement, key_reward)
    if estimator.rollouts:
        rewards = rows.gathered(
            _rollout_rewards(game, estimator.rollouts, state, batch, written, judgement, key_rollout)
        )
    batch, written = rows.gathered((batch, written))
    if not estimator.rollouts and not game.dense:
        rewards = rewards * is_last(written.mask)
    paid = jnp.where(written.mask, rewards, 0.0).sum()
    paid /= written.mask.sum() if game.dense or estimator.rollouts else written.mask.shape[0]
    if game.demonstrations is not None:
        written, rewards, share = _with_demonstrations(game, state, estimator, batch, written, rewards, key_rows)
    texts = answering(batch, written)
    own = rows.own(texts)
    was = jax.lax.stop_gradient(rows.gathered(log_probs(game.generator, params, own, game.temperature)))
    if game.kl_weight and game.kl_estimator == "reward":
        reference = rows.gathered(log_probs(game.generator, state.reference, own, game.temperature))
        rewards = rewards - game.kl_weight * jnp.where(written.mask, was - reference, 0.0)
    hidden = jax.lax.stop_gradient(rows.gathered(game.generator.hidden(params, own)))
    experience = Experience(written.replace(log_probs=was), rewards, hidden, game.samples)
    advantages, estimator_state, metrics = estimator.advantages(state.estimator, experience)
    advantages = jax.lax.stop_gradient(advantages)

    def loss_of(params: Params, part: Experience, advantages: Array, texts: Batch) -> tuple[Array, Metrics]:
        own = rows.own(texts)
        logits = shape_logits(game.generator.logits(params, own), game.temperature)
        chosen = jnp.where(own.target_mask, token_log_probs(logits, own.target), 0.0)
        surrogate = estimator.loss(rows.gathered(chosen), part, advantages)
        extra, metrics = _regularised(game, state.reference, logits, chosen, own)
        return surrogate + extra, metrics | {"surrogate_loss": surrogate}

    def update(player: Player, part: Experience, advantages: Array, texts: Batch) -> tuple[Player, Metrics]:
        arguments = part, advantages, texts
        (_, found), gradient = gradient_of(loss_of, player.params, learns, *arguments, has_aux=True)
        gradient, found = rows.mean((gradient, found))
        player = updated(game.generator_optimizer, player, gradient, learns)
        return player, found | {"gradient_norm": optax.tree.norm(gradient)}

    player = state.generator
    if estimator.epochs * estimator.minibatches == 1:
        player, found = update(player, experience, advantages, texts)
    else:
        count = written.mask.shape[0]
        orders = jax.vmap(lambda key: jax.random.permutation(key, count))(
            jax.random.split(key_order, estimator.epochs)
        ).reshape(estimator.epochs * estimator.minibatches, -1)
        arrays = experience.sample, rewards, hidden, advantages, texts

        def one(player: Player, chosen: Array) -> tuple[Player, Metrics]:
            sample, paid, states, weights, some = jax.tree.map(lambda x: jnp.take(x, chosen, axis=0), arrays)
            return update(player, Experience(sample, paid, states, game.samples), weights, some)

        player, all_found = jax.lax.scan(one, player, orders)
        found = jax.tree.map(lambda x: x.mean(axis=0), all_found)
    metrics = metrics | found | {"reward": paid}
    if game.demonstrations is not None:
        metrics["demonstrations"] = share
    return player, estimator_state, metrics


def _rollout_rewards(
    game: Game, rollouts: int, state: GanState, batch: Batch, written: Sample, judgement: Judgement, key: Array
) -> Array:
    """The value of each token by the judgement of texts that go on from it; of this program's own rows."""
    prompts = repeated(batch, game.samples)
    continued = repeated(prompts, rollouts)

    judge, continuations = state.discriminator.params, game.discriminator.continuations
    kept = None if continuations is None else continuations.read(judge, answering(batch, written))

    def value(key: Array, tokens: Array, mask: Array, shared: int) -> Array:
        texts = continued.replace(target=tokens, target_mask=mask)
        if continuations is None or kept is None:
            found = game.discriminator.scores(judge, texts)
        else:
            found = continuations.scores(judge, kept, texts, shared)
        scores, features, classes = game.rows.gathered((found.sequence[:, None], found.features, found.classes))
        label = None if classes is None else game.rows.gathered(texts.label)
        of_texts = judgement._replace(
            fake=scores,
            fake_mask=jnp.ones_like(scores, dtype=bool),
            fake_features=features,
            fake_classes=classes,
            fake_label=label,
        )
        return game.rows.own(game.reward(of_texts, key)[:, 0])

    return rollout_values(
        game.generator,
        state.generator.params,
        key,
        prompts.prompt,
        prompts.prompt_mask,
        written,
        rollouts,
        value,
        game.temperature,
        game.rows,
        stretches=1 if continuations is None else STRETCHES,
    )


def _with_demonstrations(
    game: Game,
    state: GanState,
    estimator: PolicyGradient,
    batch: Batch,
    written: Sample,
    rewards: Array,
    key: Array,
) -> tuple[Sample, Array, Array]:
    """Some texts replaced by real ones, and the share of them."""
    demonstrations = game.demonstrations
    assert demonstrations is not None
    made = (state.step - state.begun).astype(jnp.float32)
    share = demonstrations.share * jnp.clip(1 - made / demonstrations.steps, 0.0, 1.0)
    real = repeated(batch, game.samples)
    taken = (jax.random.uniform(key, (written.mask.shape[0],)) < share)[:, None]
    # Rollouts take rewards for values: there every token is worth what the text is paid.
    paid_at = jnp.ones(written.mask.shape) if estimator.rollouts else is_last(real.target_mask)
    replaced = Sample(
        tokens=jnp.where(taken, real.target, written.tokens),
        mask=jnp.where(taken, real.target_mask, written.mask),
        log_probs=written.log_probs,
    )
    return replaced, jnp.where(taken, demonstrations.reward * paid_at, rewards), taken.mean()


# ---- pathwise


def pathwise_update(
    game: Game, estimator: Pathwise, state: GanState, batch: Batch, written: Sample, judgement: Judgement, key: Array
) -> Update:
    """The generator follows the gradient of the discriminator's own judgement of relaxed texts."""
    key_relax, key_reward = jax.random.split(key)
    rows, texts = game.rows, answering(batch, written)
    key_relax = rows.own_key(key_relax)

    def loss_of(params: Params) -> tuple[Array, Metrics]:
        logits = shape_logits(game.generator.logits(params, texts), game.temperature)
        weights = estimator.relax(state.estimator, key_relax, logits, texts.target)
        discriminator, judge = game.discriminator, state.discriminator.params
        scores: Scores = discriminator.judge(judge, discriminator.embed(judge, texts, weights), texts)
        mask = judgement.fake_mask
        fake, features, classes = rows.gathered(
            (scores.tokens if game.dense else scores.sequence[:, None], scores.features, scores.classes)
        )
        relaxed = judgement._replace(fake=fake, fake_features=features, fake_classes=classes)
        rewards = game.reward(relaxed, key_reward)
        paid = jnp.where(mask, rewards, 0.0).sum()
        loss = -paid / mask.shape[0]
        chosen = jnp.where(texts.target_mask, token_log_probs(logits, texts.target), 0.0)
        extra, metrics = _regularised(game, state.reference, logits, chosen, texts)
        return loss + extra, metrics | {"surrogate_loss": loss, "reward": paid / mask.sum()}

    learns = game.learning.generator
    (_, metrics), gradient = gradient_of(loss_of, state.generator.params, learns, has_aux=True)
    gradient, metrics = rows.mean((gradient, metrics))
    estimator_state, more = estimator.advance(state.estimator)
    metrics |= more | {"gradient_norm": optax.tree.norm(gradient)}
    return updated(game.generator_optimizer, state.generator, gradient, learns), estimator_state, metrics


# ---- self-play


def self_play_step(
    game: Game, estimator: SelfPlay, state: GanState, batch: Batch, key: Array
) -> tuple[GanState, Metrics]:
    """The generator learns to prefer real text to that of its reference; there is no discriminator."""
    estimator_state, renew = estimator.refresh(state.estimator)
    learns = game.learning.generator
    reference = where_learning(
        lambda old, new: jnp.where(renew, new, old), learns, state.reference, state.generator.params
    )
    written = write(game, reference, batch, key)
    texts = answering(batch, written)

    def of_texts(params: Params, texts: Batch) -> Array:
        return game.rows.gathered(log_probs(game.generator, params, texts, game.temperature).sum(axis=1))

    of_reference = of_texts(reference, batch), of_texts(reference, texts)

    def loss_of(params: Params) -> tuple[Array, Metrics]:
        return estimator.loss(of_texts(params, batch), of_reference[0], of_texts(params, texts), of_reference[1])

    (loss, metrics), gradient = gradient_of(loss_of, state.generator.params, learns, has_aux=True)
    gradient = game.rows.mean(gradient)
    metrics |= {
        "loss": loss,
        "gradient_norm": optax.tree.norm(gradient),
        **shape_metrics(game, batch, written),
    }
    player = updated(game.generator_optimizer, state.generator, gradient, learns)
    return state.replace(generator=player, estimator=estimator_state, reference=reference), metrics


# ---- what all share


def _regularised(
    game: Game, reference: Params | None, logits: Array, chosen: Array, texts: Batch
) -> tuple[Array, Metrics]:
    """Entropy bonus and KL penalty as an addition to the loss, sums over a text's tokens averaged over texts."""
    mask = game.rows.gathered(texts.target_mask)
    count, tokens = mask.shape[0], jnp.maximum(mask.sum(), 1)
    # Where it is but a metric, its gradient times 0 would be computed all the same.
    of_logits = entropy(logits if game.entropy_weight else jax.lax.stop_gradient(logits))
    entropy_sum = jnp.where(mask, game.rows.gathered(of_logits), 0.0).sum()
    metrics = {"entropy": entropy_sum / tokens}
    extra = -game.entropy_weight * entropy_sum / count
    if game.kl_weight:
        reference_logits = shape_logits(game.generator.logits(reference, texts), game.temperature)
        kl = game.rows.gathered(_KL[game.kl_estimator](logits, reference_logits, chosen, texts.target))
        kl_sum = jnp.where(mask, kl, 0.0).sum()
        metrics["kl"] = kl_sum / tokens
        if game.kl_estimator != "reward":
            extra += game.kl_weight * kl_sum / count
    return extra, metrics


def _exact(logits: Array, reference: Array, chosen: Array, tokens: Array) -> Array:
    return kl_divergence(logits, reference)


def _low_variance(logits: Array, reference: Array, chosen: Array, tokens: Array) -> Array:
    log_ratio = token_log_probs(reference, tokens) - chosen
    return jnp.expm1(log_ratio) - log_ratio


_KL: dict[str, Callable[[Array, Array, Array, Array], Array]] = {
    "exact": _exact,
    "low_variance": _low_variance,
    "reward": _exact,
}
