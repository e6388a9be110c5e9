"""The discriminator's side of a step: its gradient, and its scores of the generated texts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gptgan_jax.algorithms.game import Game
from gptgan_jax.algorithms.learning import gradient_of, updated
from gptgan_jax.algorithms.mixing import mixed_with, remember
from gptgan_jax.algorithms.texts import Metrics, answering, next_token_nats, shape_metrics
from gptgan_jax.gradients.families import Mediated
from gptgan_jax.objectives.classification import class_accuracy, class_cross_entropy
from gptgan_jax.objectives.discrimination import pair_accuracy, prompt_accuracy
from gptgan_jax.objectives.likelihood import masked_mean, token_log_probs
from gptgan_jax.objectives.mmd import squared_mmd
from gptgan_jax.objectives.penalties import gradient_penalty, zero_centred
from gptgan_jax.objectives.rewards import Judgement
from gptgan_jax.objectives.windows import of_windows
from gptgan_jax.schema.ranges import is_on
from gptgan_jax.types import Array, Batch, GanState, Params, Sample, Scores


class Discrimination(NamedTuple):
    """The discriminator's gradient and scores for a batch and for texts that answer its prompts.

    Attributes:
        gradient: of its loss, by its trained parameters.
        judgement: its scores without dropout, from which rewards are computed, of all devices' rows. None for a
            mediator, which gives no scores.
        metrics: float32 scalars.
    """

    gradient: Params
    judgement: Judgement | None
    metrics: Metrics


def counted(game: Game, scores: Scores, mask: Array) -> tuple[Array, Array]:
    """What of the scores counts, and its mask: of tokens [R, T], of windows [R, W], or of whole texts [R, S]."""
    if game.dense and (window := game.discriminator.window):
        return of_windows(scores.tokens, mask, window)
    return (scores.tokens, mask) if game.dense else (scores.texts, jnp.ones_like(scores.texts, dtype=bool))


def judgement_of(game: Game, real: Scores, batch: Batch, fake: Scores, fakes: Batch) -> Judgement:
    """The scores that count, of real and of generated texts in all rows."""
    values, mask = counted(game, fake, fakes.target_mask)
    of_real = counted(game, real, batch.target_mask)
    label = None if fake.classes is None else fakes.label
    return game.rows.gathered(Judgement(values, mask, *of_real, fake.features, real.features, fake.classes, label))


def discriminate(game: Game, state: GanState, batch: Batch, written: Sample, key: Array) -> Discrimination:
    """The discriminator's gradient and scores, with real and generated text read as one batch."""
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
        # Texts from the replay answer other prompts.
        scores = real, fake = _scores_of_both(game, params, batch, learnt, key_dropout, state.replay is None)
        parts = judgement_of(game, real, batch, fake, learnt)
        loss = game.pair_loss(*_paired(parts))
        loss += _penalties(game, params, batch, learnt, key_penalty)
        extra, found = _of_real_text(game, params, batch, real, key_dropout)
        if is_on(game.mmd_weight):
            if parts.real_features is None or parts.fake_features is None:
                raise ValueError("mmd_weight needs features of texts, and this discriminator gives none")
            # The discriminator learns features in which both differ, while the generator makes them similar.
            found["feature_mmd"] = squared_mmd(parts.fake_features, parts.real_features, game.mmd_bandwidths)
            extra -= game.mmd_weight * found["feature_mmd"]
        return game.real_fake_weight * loss + extra, ({"discriminator_loss": loss, **found}, scores)

    (_, (losses, scores)), gradient = gradient_of(loss_of, params, game.learning.discriminator, has_aux=True)
    gradient, losses = rows.mean((gradient, losses))
    if discriminator.drops or state.replay is not None:
        # Otherwise the forward pass of the loss already has these scores.
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


def with_discriminator(game: Game, state: GanState, batch: Batch, written: Sample, found: Discrimination) -> GanState:
    """The state with the discriminator updated and the generated texts added to its replay."""
    learns = game.learning.discriminator
    player = updated(game.discriminator_optimizer, state.discriminator, found.gradient, learns)
    replay = None if state.replay is None else remember(state.replay, game.rows.gathered(answering(batch, written)))
    return state.replace(discriminator=player, replay=replay)


def supervised(game: Game, state: GanState, batch: Batch, key: Array) -> tuple[Params, Metrics]:
    """The gradient of the discriminator's losses on real text only, and metrics; no text is generated."""
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
    """The weighted terms of the discriminator's loss that need no generated text: classes and next token."""
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


def _paired(parts: Judgement) -> tuple[Array, Array, Array, Array]:
    """Real and generated scores with their masks: each generated text beside the real one of its prompt.

    Where there are several a prompt, the first of all prompts come first, then the second: so that neighbours are never
    one real text and itself, which would tell nothing where a loss compares them (`relativistic_tie`).
    """
    count = parts.real.shape[0]
    samples = parts.fake.shape[0] // count

    def in_turns(x: Array) -> Array:
        return x.reshape(count, samples, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)

    real, real_mask = (jnp.tile(x, (samples, 1)) for x in (parts.real, parts.real_mask))
    return real, real_mask, in_turns(parts.fake), in_turns(parts.fake_mask)


def _mediate(game: Game, state: GanState, batch: Batch, written: Sample, key: Array) -> Discrimination:
    """The gradient of a mediator, which learns the next tokens of real and of generated text alike."""
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
    """The scores of real and of generated texts, in one forward pass.

    Args:
        game: with the discriminator.
        params: its parameters.
        real: B texts.
        fakes: R texts; if they answer the same prompts, R / B neighbours each.
        dropout_key: for dropout, if given.
        same_prompts: whether they answer the same prompts, so that each prompt can be read once for all its texts.
    """
    discriminator, count = game.discriminator, real.target.shape[0]
    each = fakes.target.shape[0] // count
    # With dropout, texts that share one reading of their prompt would share its dropout.
    drops = discriminator.drops and dropout_key is not None
    if each == 1 or real.prompt.shape[1] == 1 or drops or not (same_prompts and discriminator.shares_prompts):
        joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), real, fakes)
        scores = discriminator.scores(params, joined, dropout_key)
        return jax.tree.map(lambda x: x[:count], scores), jax.tree.map(lambda x: x[count:], scores)

    def beside(a: Array, b: Array) -> Array:
        """The real text of a prompt and the texts generated for it, as neighbours."""
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
    """R1, R2 and gradient penalty, weighted, without dropout, as functions of embeddings."""
    discriminator = game.discriminator

    def score(batch: Batch, embeddings: Array) -> Array:
        scores = discriminator.judge(params, embeddings, batch)
        if not game.dense:
            return scores.sequence
        values, mask = counted(game, scores, batch.target_mask)
        return jnp.where(mask, values, 0.0).sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1)

    total = jnp.float32(0)
    if is_on(game.r1_weight):
        embedded = discriminator.embed(params, real)
        total += game.r1_weight * zero_centred(lambda x: score(real, x), embedded)
    if is_on(game.r2_weight):
        embedded = discriminator.embed(params, fakes)
        total += game.r2_weight * zero_centred(lambda x: score(fakes, x), embedded)
    if is_on(game.gradient_penalty_weight):
        # Between a real text and the first one generated for its prompt, over the tokens that either has.
        first = jax.tree.map(lambda x: x[:: fakes.target.shape[0] // real.target.shape[0]], fakes)
        both = real.replace(
            prompt_mask=real.prompt_mask | first.prompt_mask, target_mask=real.target_mask | first.target_mask
        )
        # Padding after the end of one text must not count where the other text is longer.
        ends = (_inside(real, discriminator.embed(params, real)), _inside(first, discriminator.embed(params, first)))
        total += game.gradient_penalty_weight * gradient_penalty(lambda x: score(both, x), *ends, key, game.rows)
    return total


def _inside(batch: Batch, embeddings: Array) -> Array:
    """The embeddings of tokens inside the masks; 0 for the others."""
    mask = jnp.concatenate([batch.prompt_mask, batch.target_mask], axis=1)
    return jnp.where(mask[..., None], embeddings, 0)
