"""The discriminator's side of a step: its gradient, and its scores of what the generator wrote."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gptgan_jax.algorithms.game import Game
from gptgan_jax.algorithms.learning import gradient_of
from gptgan_jax.algorithms.mixing import mixed_with
from gptgan_jax.algorithms.texts import Metrics, answering, next_token_nats, shape_metrics
from gptgan_jax.gradients.families import Mediated
from gptgan_jax.objectives.classification import class_accuracy, class_cross_entropy
from gptgan_jax.objectives.discrimination import pair_accuracy, prompt_accuracy
from gptgan_jax.objectives.likelihood import masked_mean, token_log_probs
from gptgan_jax.objectives.mmd import squared_mmd
from gptgan_jax.objectives.penalties import gradient_penalty, zero_centred
from gptgan_jax.objectives.rewards import Judgement, is_last
from gptgan_jax.schema.ranges import is_on
from gptgan_jax.types import Array, Batch, GanState, Params, Sample, Scores


class Discrimination(NamedTuple):
    """What a discriminator makes of a batch and of texts that answer its prompts.

    Attributes:
        gradient: of its loss, by those of its parameters that learn.
        judgement: its scores without dropout, of which the reward is made; those of all devices' rows. None of a
            mediator, which scores nothing.
        metrics: float32 scalars.
    """

    gradient: Params
    judgement: Judgement | None
    metrics: Metrics


def counted(game: Game, scores: Scores, mask: Array) -> tuple[Array, Array]:
    """What of the scores counts, and its mask: of every token or window's end [R, T], or of whole texts [R, S]."""
    if game.dense and (window := game.discriminator.window):
        ends = jnp.arange(1, mask.shape[1] + 1) % window == 0
        return scores.tokens, mask & (ends | is_last(mask))
    return (scores.tokens, mask) if game.dense else (scores.texts, jnp.ones_like(scores.texts, dtype=bool))


def judgement_of(game: Game, real: Scores, batch: Batch, fake: Scores, fakes: Batch) -> Judgement:
    """The scores that count, of real and of generated texts in all rows."""
    values, mask = counted(game, fake, fakes.target_mask)
    of_real = counted(game, real, batch.target_mask)
    label = None if fake.classes is None else fakes.label
    return game.rows.gathered(Judgement(values, mask, *of_real, fake.features, real.features, fake.classes, label))


def discriminate(game: Game, state: GanState, batch: Batch, written: Sample, key: Array) -> Discrimination:
    """The discriminator reads real and generated text as one batch; it has not learnt from them yet."""
    if isinstance(game.estimator, Mediated):
        return _mediate(game, state, batch, written, key)
    discriminator, params, rows = game.discriminator, state.discriminator.params, game.rows
    key_dropout, key_replay, key_penalty = jax.random.split(key, 3)
    key_dropout = rows.own_key(key_dropout)
    fakes = answering(batch, written)
    learnt = fakes
    if state.replay is not None:
        learnt = rows.own(mixed_with(state.replay, game.replay_share, rows.gathered(fakes), key_replay))

    def loss_of(params: Params) -> tuple[Array, tuple[Metrics, tuple[Scores, Scores]]]:
        # Earlier texts of a replay answer other prompts.
        scores = real, fake = _scores_of_both(game, params, batch, learnt, key_dropout, state.replay is None)
        parts = judgement_of(game, real, batch, fake, learnt)
        samples = parts.fake.shape[0] // parts.real.shape[0]
        pairs = jnp.repeat(parts.real, samples, axis=0), jnp.repeat(parts.real_mask, samples, axis=0)
        loss = game.pair_loss(*pairs, parts.fake, parts.fake_mask)
        loss += _penalties(game, params, batch, learnt, key_penalty)
        extra, found = _of_real_text(game, params, batch, real, key_dropout)
        if is_on(game.mmd_weight):
            if parts.real_features is None or parts.fake_features is None:
                raise ValueError("mmd_weight spreads features of texts, and this discriminator gives none")
            # It learns features by which the two differ, as the generator makes them alike.
            found["feature_mmd"] = squared_mmd(parts.fake_features, parts.real_features, game.mmd_bandwidths)
            extra -= game.mmd_weight * found["feature_mmd"]
        return game.real_fake_weight * loss + extra, ({"discriminator_loss": loss, **found}, scores)

    (_, (losses, scores)), gradient = gradient_of(loss_of, params, game.learning.discriminator, has_aux=True)
    gradient, losses = rows.mean((gradient, losses))
    if discriminator.drops or state.replay is not None:
        # Otherwise the pass that it learns by is its judgement already, and need not be made twice.
        scores = _scores_of_both(game, params, batch, fakes)
    real, fake = scores
    metrics = {
        **losses,
        **_class_metrics(game, real, batch),
        "discriminator_accuracy": pair_accuracy(*rows.gathered((real.sequence, fake.sequence))),
        "discriminator_gradient_norm": optax.tree.norm(gradient),
        **shape_metrics(game, batch, written),
    }
    if batch.prompt.shape[1] > 1:
        metrics["prompt_accuracy"] = prompt_accuracy(*rows.gathered((real.sequence, fake.sequence)))
    return Discrimination(gradient, judgement_of(game, real, batch, fake, fakes), metrics)


def supervised(game: Game, state: GanState, batch: Batch, key: Array) -> tuple[Params, Metrics]:
    """The gradient of the discriminator's losses on real text alone, and metrics: nothing is written."""
    discriminator, params, rows = game.discriminator, state.discriminator.params, game.rows
    key_dropout = rows.own_key(key)

    def loss_of(params: Params) -> tuple[Array, tuple[Metrics, Scores]]:
        real = discriminator.scores(params, batch, key_dropout)
        loss, found = _of_real_text(game, params, batch, real, key_dropout)
        return loss, (found, real)

    (_, (losses, scores)), gradient = gradient_of(loss_of, params, game.learning.discriminator, has_aux=True)
    gradient, losses = rows.mean((gradient, losses))
    metrics = {
        **losses,
        **_class_metrics(game, discriminator.scores(params, batch) if discriminator.drops else scores, batch),
        "discriminator_gradient_norm": optax.tree.norm(gradient),
    }
    return gradient, metrics


def _of_real_text(game: Game, params: Params, batch: Batch, real: Scores, key_dropout: Array) -> tuple[Array, Metrics]:
    """What of the discriminator's loss needs no generated text, weighted: its classes, and the next token."""
    total, found = jnp.float32(0), {}
    if is_on(game.class_weight) and real.classes is not None:
        found["class_loss"] = class_cross_entropy(*game.rows.gathered((real.classes, batch.label)))
        total += game.class_weight * found["class_loss"]
    if is_on(game.next_token_weight) and game.discriminator.next_logits is not None:
        logits = game.discriminator.next_logits(params, batch, key_dropout)
        found["discriminator_next_token_loss"] = next_token_nats(game, logits, batch)
        total += game.next_token_weight * found["discriminator_next_token_loss"]
    return total, found


def _class_metrics(game: Game, real: Scores, batch: Batch) -> Metrics:
    if not is_on(game.class_weight) or real.classes is None:
        return {}
    classes, label = game.rows.gathered((real.classes, batch.label))
    return {"class_accuracy": class_accuracy(classes, label), "labelled_share": (label >= 0).mean()}


# ---- inside


def _mediate(game: Game, state: GanState, batch: Batch, written: Sample, key: Array) -> Discrimination:
    """A mediator learns the next token of real and of generated text, a text like another."""
    fakes, rows = answering(batch, written), game.rows
    key_dropout = rows.own_key(key)

    def loss_of(params: Params) -> Array:
        assert game.discriminator.next_logits is not None
        parts = [
            (-token_log_probs(game.discriminator.next_logits(params, texts, key_dropout), texts.target), texts)
            for texts in (batch, fakes)
        ]
        nats = jnp.concatenate([rows.gathered(nats) for nats, _ in parts])
        return masked_mean(nats, jnp.concatenate([rows.gathered(texts.target_mask) for _, texts in parts]))

    loss, gradient = gradient_of(loss_of, state.discriminator.params, game.learning.discriminator)
    gradient, loss = rows.mean((gradient, loss))
    metrics = {
        "discriminator_loss": loss,
        "discriminator_gradient_norm": optax.tree.norm(gradient),
        **shape_metrics(game, batch, written),
    }
    return Discrimination(gradient, None, metrics)


def _scores_of_both(
    game: Game, params: Params, real: Batch, fakes: Batch, dropout_key: Array | None = None, same_prompts: bool = True
) -> tuple[Scores, Scores]:
    """The scores of real and of generated texts, by one forward pass.

    Args:
        game: with the discriminator.
        params: its parameters.
        real: B texts.
        fakes: R texts; where they answer the same prompts, R / B neighbours each.
        dropout_key: dropout acts where it is given.
        same_prompts: whether they do, so that each prompt may be read once for all its texts.
    """
    discriminator, count = game.discriminator, real.target.shape[0]
    each = fakes.target.shape[0] // count
    # With dropout, texts of a prompt that is read once would have its dropout in common.
    drops = discriminator.drops and dropout_key is not None
    if each == 1 or real.prompt.shape[1] == 1 or drops or not (same_prompts and discriminator.shares_prompts):
        joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), real, fakes)
        scores = discriminator.scores(params, joined, dropout_key)
        return jax.tree.map(lambda x: x[:count], scores), jax.tree.map(lambda x: x[count:], scores)

    def beside(a: Array, b: Array) -> Array:
        """The real text of a prompt and those that were generated for it, as neighbours."""
        together = jnp.concatenate([a[:, None], b.reshape(count, each, *b.shape[1:])], axis=1)
        return together.reshape(-1, *a.shape[1:])

    texts = real.replace(
        target=beside(real.target, fakes.target),
        target_mask=beside(real.target_mask, fakes.target_mask),
        label=beside(real.label, fakes.label),
    )
    scores = discriminator.scores(params, texts, dropout_key)
    apart = jax.tree.map(lambda x: x.reshape(count, each + 1, *x.shape[1:]), scores)
    return (
        jax.tree.map(lambda x: x[:, 0], apart),
        jax.tree.map(lambda x: x[:, 1:].reshape(-1, *x.shape[2:]), apart),
    )


def _penalties(game: Game, params: Params, real: Batch, fakes: Batch, key: Array) -> Array:
    """R1, R2 and gradient penalty, weighted; without dropout, as a function of embeddings."""
    discriminator = game.discriminator

    def score(batch: Batch, embeddings: Array) -> Array:
        scores = discriminator.judge(params, embeddings, batch)
        if not game.dense:
            return scores.sequence
        return jnp.where(batch.target_mask, scores.tokens, 0.0).sum(axis=1) / jnp.maximum(
            batch.target_mask.sum(axis=1), 1
        )

    total = jnp.float32(0)
    if is_on(game.r1_weight):
        embedded = discriminator.embed(params, real)
        total += game.r1_weight * zero_centred(lambda x: score(real, x), embedded)
    if is_on(game.r2_weight):
        embedded = discriminator.embed(params, fakes)
        total += game.r2_weight * zero_centred(lambda x: score(fakes, x), embedded)
    if is_on(game.gradient_penalty_weight):
        # Between a real text and the first one that was generated for its prompt, over the tokens that either has.
        first = jax.tree.map(lambda x: x[:: fakes.target.shape[0] // real.target.shape[0]], fakes)
        both = real.replace(
            prompt_mask=real.prompt_mask | first.prompt_mask, target_mask=real.target_mask | first.target_mask
        )
        # What stands after a text's end must not count where the other goes on.
        ends = (_inside(real, discriminator.embed(params, real)), _inside(first, discriminator.embed(params, first)))
        total += game.gradient_penalty_weight * gradient_penalty(lambda x: score(both, x), *ends, key, game.rows)
    return total


def _inside(batch: Batch, embeddings: Array) -> Array:
    """The embeddings of tokens that count; 0 for the others."""
    mask = jnp.concatenate([batch.prompt_mask, batch.target_mask], axis=1)
    return jnp.where(mask[..., None], embeddings, 0)
