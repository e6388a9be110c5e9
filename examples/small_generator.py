"""Shared by policy_improvement and self_distillation: a generator too small for its source, a larger discriminator.

The source is the built-in grammar of English, with exact probabilities; a parser decides which sentences are
grammatical."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

import gptgan_jax as gg
from gptgan_jax.sources.grammar import english_scenes

GRAMMAR = english_scenes()
WORDS = ["<pad>", "<bos>", "<eos>", *GRAMMAR.words]
VOCABULARY, LENGTH = gg.Vocabulary(size=len(WORDS)), 25
TEMPERATURES, CANDIDATES = (1.0, 0.85, 0.7), 8
BLOCKS = {"norm": "rms", "activation": "swiglu", "positions": "rotary", "qkv_bias": False, "bias": False}
# The next-token loss is the discriminator's own: it learns the language by it, besides the scores.
OBJECTIVE = {"dense": False, "kl_weight": 1.0, "kl_estimator": "reward", "next_token_weight": 1.0}
GENERATOR = gg.build_generator(gg.TransformerConfig(layers=1, width=16, heads=2, mlp_width=32, **BLOCKS), VOCABULARY)
DISCRIMINATOR = gg.build_discriminator(
    gg.TransformerDiscriminatorConfig(layers=2, width=96, heads=4, mlp_width=192, **BLOCKS), VOCABULARY
)
RESIDUAL = gg.residual(GENERATOR, DISCRIMINATOR)


def gan(rate, discriminator_rate, steps, reward=gg.rewards.logit):
    """A gan of whole texts, with the batch's others as baseline; at KL weight 1 the optimum is p(x) exp(D(x)) / Z."""

    def adam(peak):
        schedule = optax.warmup_cosine_decay_schedule(peak / 10, peak, steps // 10, steps, peak / 10)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    return gg.gan_from(
        GENERATOR,
        DISCRIMINATOR,
        estimator=gg.reinforce(baseline=gg.leave_one_out()),
        reward=reward,
        **OBJECTIVE,
        generator_optimizer=adam(rate),
        discriminator_optimizer=adam(discriminator_rate),
    )


def encoded(sentences):
    """Token ids int32 [N, T] of sentences, each followed by EOS."""
    ids, rows = {word: i for i, word in enumerate(WORDS)}, np.zeros((len(sentences), LENGTH), np.int32)
    for row, words in zip(rows, map(str.split, sentences), strict=True):
        row[: len(words) + 1] = [*(ids[word] for word in words), VOCABULARY.eos_id]
    return rows


@jax.jit
def batch_of(texts):
    """A batch of texts int32 [B, T]."""
    return gg.unconditional_batch(texts, VOCABULARY)


def trained(step, state, texts, steps, rows, rng):
    """The state after a number of steps on batches of the texts."""
    step = jax.jit(step)
    for _ in range(steps):
        state, _ = step(state, batch_of(texts[rng.integers(len(texts), size=rows)]))
    return state


@partial(jax.jit, static_argnames="count")
def written(params, scorer, key, temperature, count):
    """Texts of the generator; with a scorer, each resampled from several candidates by exp(D)."""
    if scorer is None:
        where = jnp.full((count, 1), VOCABULARY.bos_id), jnp.ones((count, 1), bool), LENGTH
        return gg.sample(GENERATOR, params, key, *where, temperature)
    return RESIDUAL.sample(params, scorer, key, count, LENGTH, CANDIDATES, temperature)


@jax.jit
def text_nats(params, batch, temperature):
    """Negative log-likelihood of each text, float32 [B]."""
    return -gg.log_probs(GENERATOR, params, batch, temperature).sum(axis=1)


energy, log_z = jax.jit(RESIDUAL.energy), jax.jit(RESIDUAL.log_z, static_argnames=("count", "length"))


def measured(params, scorer, key, test, temperature, count):
    """(nats per token of test text, share of grammatical samples); with a scorer, of the resampled model."""
    nats = text_nats(params, test, temperature)
    if scorer is not None:
        normaliser, _ = log_z(params, scorer, jax.random.fold_in(key, 1), 4 * count, LENGTH, temperature)
        nats += normaliser - energy(scorer, test.target, test.target_mask)
    tokens = np.asarray(written(params, scorer, key, temperature, count).tokens)
    sentences = [" ".join(WORDS[i] for i in row[row > 2]) for row in tokens]
    grammatical = [GRAMMAR.log_prob(sentence) > -np.inf for sentence in sentences]
    return float(nats.sum() / test.target_mask.sum()), float(np.mean(grammatical))


def gain(ours, theirs):
    """Mean difference of grammatical shares over the NLLs that both sweeps reach; NaN if there are none."""
    ours, theirs = (np.array(sorted(points)) for points in (ours, theirs))
    grid = np.linspace(max(ours[0, 0], theirs[0, 0]), min(ours[-1, 0], theirs[-1, 0]), 50)
    return np.mean(np.interp(grid, *ours.T) - np.interp(grid, *theirs.T)) if grid[0] < grid[-1] else np.nan


def half_interval(found):
    """Half the 95 % interval of a mean over seeds, by Student's t; NaN for a single seed."""
    return stats.t.ppf(0.975, len(found) - 1) * stats.sem(found) if len(found) > 1 else np.nan
