"""The generated texts of a step: sampling, rewards of texts, likelihood, and metrics of length and repetition."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gptgan_jax.algorithms.game import Game
from gptgan_jax.objectives.likelihood import masked_mean, token_log_probs
from gptgan_jax.objectives.text_rewards import text_totals, without_signal
from gptgan_jax.sampling.decoding import reads_once, sample
from gptgan_jax.types import Array, Batch, Params, Sample

Metrics = dict[str, Array]


def repeated(batch: Batch, count: int) -> Batch:
    """Every row `count` times, copies next to each other."""
    return batch if count == 1 else jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), batch)


def answering(batch: Batch, written: Sample) -> Batch:
    """The batch with the texts as targets; the R texts of B prompts are neighbours by prompt."""
    prompts = repeated(batch, written.tokens.shape[0] // batch.target.shape[0])
    return prompts.replace(target=written.tokens, target_mask=written.mask)


def texts_alone(batch: Batch) -> Batch:
    """The batch without what the discriminator's side never reads, which generated and earlier texts do not have."""
    return batch.replace(rows=None, top_k=None)


def write(game: Game, params: Params, batch: Batch, key: Array) -> Sample:
    """Generated texts that answer the batch's prompts, `game.samples` neighbours for each."""
    return sample(
        game.generator,
        params,
        key,
        batch.prompt,
        batch.prompt_mask,
        batch.target.shape[1],
        game.temperature,
        rows=game.rows,
        samples=game.samples,
    )


def with_prompts_once(game: Game, texts: Batch) -> Batch:
    """The same texts with each prompt only once for its `game.samples` neighbours, if the generator supports this."""
    if game.samples == 1 or not reads_once(game.generator, texts.prompt):
        return texts
    return texts.replace(prompt=texts.prompt[:: game.samples], prompt_mask=texts.prompt_mask[:: game.samples])


class Drawn(NamedTuple):
    """The texts of an adversarial step with their text rewards, of this program's own rows.

    Attributes:
        written: R texts, those of a prompt as neighbours.
        rewards: for each of `Game.text_rewards`, float32 [R] or [R, T].
        again: int32 [], how many times texts were resampled; None without resampling.
    """

    written: Sample
    rewards: tuple[Array, ...] = ()
    again: Array | None = None


def draw(game: Game, params: Params, batch: Batch, key: Array) -> Drawn:
    """Texts that answer the batch's prompts, with their text rewards; resampled for prompts where these are equal."""
    written = write(game, params, batch, key)
    if not game.text_rewards:
        return Drawn(written)
    texts = repeated(batch, game.samples)

    def measured(written: Sample) -> tuple[Array, ...]:
        return tuple(reward.measured(written, texts) for reward in game.text_rewards)

    first = Drawn(written, measured(written))
    if not game.resample_groups:
        return first

    def wanted(state: tuple[Array, Drawn]) -> Array:
        again, drawn = state
        dull = game.rows.gathered(dull_groups(game, drawn))  # the loop must end in the same iteration on all devices
        return (again < game.resample_groups) & dull.any()

    def renewed(state: tuple[Array, Drawn]) -> tuple[Array, Drawn]:
        again, drawn = state
        written = write(game, params, batch, jax.random.fold_in(key, again + 1))
        other = Drawn(written, measured(written))
        dull = jnp.repeat(dull_groups(game, drawn), game.samples)
        return again + 1, jax.tree.map(
            lambda new, old: jnp.where(dull.reshape(-1, *[1] * (new.ndim - 1)), new, old), other, drawn
        )

    again, last = jax.lax.while_loop(wanted, renewed, (jnp.int32(0), first))
    return last._replace(again=again)


def dull_groups(game: Game, drawn: Drawn) -> Array:
    """Prompts for which every text reward with a weight is the same for all texts: bool [R / N]."""
    found = [
        without_signal(rewards if rewards.ndim == 1 else text_totals(rewards, drawn.written.mask), game.samples)
        for reward, rewards in zip(game.text_rewards, drawn.rewards, strict=True)
        if reward.is_paid
    ]
    return jnp.stack(found).all(axis=0)


def next_token_nats(game: Game, logits: Array, batch: Batch) -> Array:
    """Mean negative log-likelihood in nats per token, over all rows: float [B, T, V] -> float32 []."""
    nats = game.rows.gathered(-token_log_probs(logits, batch.target))
    return masked_mean(nats, game.rows.gathered(batch.target_mask))


def shape_metrics(game: Game, batch: Batch, written: Sample) -> Metrics:
    """Mean length and repetition of the generated texts and of the batch's real ones."""
    metrics = {}
    for prefix, tokens, mask in (("", written.tokens, written.mask), ("real_", batch.target, batch.target_mask)):
        lengths, shares = game.rows.gathered((mask.sum(axis=1), repeated_bigrams(tokens, mask)))
        metrics[f"{prefix}length"] = lengths.mean()
        metrics[f"{prefix}repetition"] = masked_mean(shares, lengths > 1)
    return metrics


def repeated_bigrams(tokens: Array, mask: Array) -> Array:
    """The share of a text's token 2-grams that occurred in it before (seq-rep-2, Welleck et al. 2020).

    Args:
        tokens: int32 [B, T].
        mask: bool [B, T], true from the first token of a text to its last.

    Returns:
        float32 [B]; 0 for a text of fewer than two tokens.
    """
    # Each 2-gram becomes one number by Knuth's multiplicative hashing; sorting a row makes equal ones neighbours.
    first, second = tokens[:, :-1].astype(jnp.uint32), tokens[:, 1:].astype(jnp.uint32)
    there = mask[:, 1:]
    keys = jnp.sort(jnp.where(there, first * jnp.uint32(2654435761) + second, jnp.uint32(2**32 - 1)), axis=1)
    count = there.sum(axis=1)
    again = (keys[:, 1:] == keys[:, :-1]) & (jnp.arange(1, keys.shape[1]) < count[:, None])
    return again.sum(axis=1) / jnp.maximum(count, 1)
