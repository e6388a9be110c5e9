"""A small language model that is trained on a set of texts, during evaluation, to score and embed other texts.

The same network scores samples (LM score), is trained on samples (reverse LM score), and embeds texts; only its
training text differs. Literature: Cífka et al. 2018, "Eval all, trust a few, do wrong
to none" (LM score and reverse LM score); Semeniuta et al. 2018, "On accurate evaluation of GANs for language
generation" (both, and Fréchet distances of embeddings).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gptgan_jax.config import JudgeConfig
from gptgan_jax.data.batches import batch_at, evaluation_batches
from gptgan_jax.data.encoding import Ragged, unconditional_split
from gptgan_jax.generation.batch_sizes import rows_at_once
from gptgan_jax.models.generators import build_generator
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.objectives.likelihood import cross_entropy
from gptgan_jax.objectives.optimizers import OptimizerConfig, build_optimizer
from gptgan_jax.scoring.held_out_likelihood import HeldOut, likelihood_of
from gptgan_jax.types import Array, Batch, Params, Vocabulary, unconditional_batch

CHECK_EVERY = 50
# The share of the training text that is held out for early stopping.
STOPPING_SHARE = 0.1
# The number of checks without progress after which training ends.
PATIENCE = 3
SCORE_AT_ONCE = 256
HEAD_WIDTH = 32


class LanguageModel(NamedTuple):
    """Functions of a small language model, compiled once for all its training texts.

    Attributes:
        fit: (targets, seed) -> params, trained on nine tenths of the texts, with early stopping by the last tenth.
        score: (params, targets) -> HeldOut: nats and tokens of each text.
        embed: (params, targets) -> float32 [N, D], the mean hidden state over each text's tokens.
        description: for signatures.
    """

    fit: Callable[[Ragged, int], Params]
    score: Callable[[Params, Ragged], HeldOut]
    embed: Callable[[Params, Ragged], np.ndarray]
    description: str


def language_model(vocabulary: Vocabulary, max_length: int, config: JudgeConfig) -> LanguageModel:
    """The model for texts of up to `max_length` tokens of a vocabulary."""
    network = TransformerConfig(
        layers=config.layers,
        width=config.width,
        heads=max(config.width // HEAD_WIDTH, 1),
        head_width=HEAD_WIDTH,
        mlp_width=2 * config.width,
        max_positions=1 + max_length,
        norm="rms",
        activation="swiglu",
        positions="rotary",
        qkv_bias=False,
        bias=False,
        dropout=config.dropout,
    )
    generator = build_generator(network, vocabulary)
    optimizer = build_optimizer(
        OptimizerConfig(
            learning_rate=config.learning_rate,
            schedule="cosine",
            warmup_steps=min(50, config.steps // 10),
            weight_decay=0.01,
        ),
        config.steps,
    )
    nats_of = likelihood_of(generator)

    as_split = partial(unconditional_split, vocabulary=vocabulary, max_length=max_length)

    @jax.jit
    def init(key: Array) -> tuple[Params, optax.OptState]:
        params = generator.init(key, unconditional_batch(jnp.zeros((1, max_length), jnp.int32), vocabulary))
        return params, optimizer.init(params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Params, opt_state: optax.OptState, batch: Batch, key: Array) -> tuple[Params, optax.OptState]:
        def loss(params: Params) -> Array:
            return cross_entropy(generator.logits(params, batch, key), batch.target, batch.target_mask)

        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def score(params: Params, targets: Ragged) -> HeldOut:
        size = rows_at_once(SCORE_AT_ONCE, len(targets), max_length * vocabulary.size)
        return nats_of(params, evaluation_batches(as_split(targets), size))

    def fit(targets: Ragged, seed: int) -> Params:
        order = np.random.default_rng(seed).permutation(len(targets))
        stopping = max(round(STOPPING_SHARE * len(targets)), 1)
        kept, learned = targets.subset(order[:stopping]), as_split(targets.subset(order[stopping:]))
        init_key, dropout_key = jax.random.split(jax.random.key(seed))
        params, opt_state = init(init_key)
        # Copied, because the next step overwrites its arguments.
        best, best_nats, behind = jax.tree.map(jnp.copy, params), np.inf, 0
        for number in range(config.steps):
            batch = batch_at(learned, seed, number, config.batch_size)
            params, opt_state = step(params, opt_state, batch, jax.random.fold_in(dropout_key, number))
            if (number + 1) % CHECK_EVERY == 0 or number + 1 == config.steps:
                nats = score(params, kept).per_token().value
                assert nats is not None
                if nats < best_nats:
                    best, best_nats, behind = jax.tree.map(jnp.copy, params), nats, 0
                else:
                    behind += 1
                if behind == PATIENCE:
                    break
        return best

    @jax.jit
    def mean_hidden(params: Params, batch: Batch) -> Array:
        weights = batch.target_mask.astype(jnp.float32)[..., None]
        hidden = generator.hidden(params, batch).astype(jnp.float32)
        return (hidden * weights).sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1.0)

    def embed(params: Params, targets: Ragged) -> np.ndarray:
        batches = evaluation_batches(as_split(targets), SCORE_AT_ONCE)
        return np.concatenate([np.asarray(mean_hidden(params, batch)) for batch in batches])[: len(targets)]

    description = f"{config.layers}-layer GPT of width {config.width}, at most {config.steps} steps"
    return LanguageModel(fit, score, embed, description)
