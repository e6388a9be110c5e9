"""Every text of a tiny vocabulary, and every batch of such texts, under a policy that is a table of logits.

The logits are those of the next token after each prefix. Token 2 is EOS; a text has at most three tokens. What the
tests compare with is computed by NumPy, in float64; they enable it in JAX too.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from helpers import as_arrays, texts_of

from gptgan_jax import Experience, Guidance, PolicyGradient, Sample, Vocabulary

V, T, EOS = 3, 3, 2
VOCABULARY = Vocabulary(size=V, eos_id=EOS)
TEXTS = list(texts_of(VOCABULARY, T))
PREFIXES = sorted({text[:t] for text in TEXTS for t in range(len(text))})
ROW = {prefix: i for i, prefix in enumerate(PREFIXES)}
STATES = np.array([[ROW.get(text[:t], 0) for t in range(T)] for text in TEXTS])  # prefix before each token
TOKENS, MASK = (np.asarray(x) for x in as_arrays(TEXTS, T, VOCABULARY.pad_id))
LENGTHS = MASK.sum(axis=1).astype(float)
LOGITS = np.random.default_rng(0).normal(0, 1, (len(PREFIXES), V))
OTHER_LOGITS = LOGITS + np.random.default_rng(2).normal(0, 0.7, LOGITS.shape)  # another policy
_NUMBERS = np.random.default_rng(1).normal(0, 1, (len(TEXTS), T))
ANY_REWARD = {text[: t + 1]: _NUMBERS[i, t] for i, text in enumerate(TEXTS) for t in range(len(text))}
# Depends on the prefix alone, as a generator's does; 1000 in the padding, where nobody may look. Exact in float32.
_BY_PREFIX = np.random.default_rng(3).normal(0, 1, (len(PREFIXES), 4)).astype(np.float32)
HIDDEN = np.where(MASK[..., None], _BY_PREFIX[STATES], 1e3).astype(np.float64)
# What became of goals, any numbers, for estimators that are guided.
FOLLOWED, INTRINSIC = np.where(MASK, np.random.default_rng(4).uniform(-1, 1, (2, len(TEXTS), T)), 1e3)


# ---- rewards


def paid(reward: Callable[[tuple[int, ...], int], float]) -> np.ndarray:
    """Rewards [texts, T] of (text, t); 1000 in the padding, where nobody may look."""
    return np.array([[reward(text, t) if t < len(text) else 1e3 for t in range(T)] for text in TEXTS])


def table(text: tuple[int, ...], t: int) -> float:
    """Any number, of the text up to the token."""
    return ANY_REWARD[text[: t + 1]]


def at_the_last(text: tuple[int, ...], t: int) -> float:
    """Any number of the text, at its last token."""
    return ANY_REWARD[text] if t == len(text) - 1 else 0.0


DENSE, LAST = paid(table), paid(at_the_last)


def totals(rewards: np.ndarray) -> np.ndarray:
    """Sum of each text's rewards."""
    return np.where(MASK, rewards, 0.0).sum(axis=1)


def returns_of(rewards: np.ndarray, discount: float) -> np.ndarray:
    """Discounted returns [texts, T], term by term; 0 in the padding."""
    out = np.zeros((len(TEXTS), T))
    for i, text in enumerate(TEXTS):
        for t in range(len(text)):
            out[i, t] = sum(discount ** (s - t) * rewards[i, s] for s in range(t, len(text)))
    return out


# ---- the policy, by NumPy


def softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    exps = np.exp(logits)
    return exps / exps.sum(axis=-1, keepdims=True)


def token_chances(logits: np.ndarray = LOGITS) -> np.ndarray:
    """Probability of each token after its prefix: [texts, T]; 1 in the padding."""
    probs = softmax(logits)
    return np.where(MASK, np.take_along_axis(probs[STATES], TOKENS[..., None], axis=-1)[..., 0], 1.0)


def chances(logits: np.ndarray = LOGITS) -> np.ndarray:
    """Probability of each text."""
    return token_chances(logits).prod(axis=1)


def score_functions(logits: np.ndarray = LOGITS) -> np.ndarray:
    """Gradient of each token's log-probability: [texts, T, prefixes, V]; 0 in the padding."""
    probs, out = softmax(logits), np.zeros((len(TEXTS), T, len(PREFIXES), V))
    for i, text in enumerate(TEXTS):
        for t in range(len(text)):
            out[i, t, ROW[text[:t]]] = np.eye(V)[text[t]] - probs[ROW[text[:t]]]
    return out


def exact_gradient(totals: np.ndarray, logits: np.ndarray = LOGITS) -> np.ndarray:
    """Gradient of E[total] = sum over texts of p(text) * total(text)."""
    return np.einsum("i,i,itpv->pv", chances(logits), totals, score_functions(logits))


# ---- batches


@functools.cache
def batches(size: int) -> np.ndarray:
    """Every batch of so many texts, as their indices [batches, size]."""
    return np.array(list(itertools.product(range(len(TEXTS)), repeat=size)))


def batch_chances(size: int, logits: np.ndarray = LOGITS) -> np.ndarray:
    """Probability of each of them."""
    return chances(logits)[batches(size)].prod(axis=1)


def weighted(advantages: np.ndarray, logits: np.ndarray = LOGITS, by: np.ndarray | None = None) -> np.ndarray:
    """The expected gradient by NumPy of advantages [batches, size, T]: mean over texts, sum over tokens.

    Args:
        by: logits of the policy that wrote the texts; default: the same.
    """
    size = advantages.shape[1]
    scores = score_functions(logits)[batches(size)]
    weights = batch_chances(size, logits if by is None else by)
    return np.einsum("b,bit,bitpv->pv", weights, advantages, scores) / size


def log_probs_of(logits: jax.Array) -> jax.Array:
    """Log-probabilities [texts, T], by JAX and differentiable; 0 in the padding."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits)[STATES], jnp.asarray(TOKENS)[..., None], axis=-1)[..., 0]
    return jnp.where(MASK, chosen, 0.0)


@functools.partial(jax.jit, static_argnames=("estimator", "size"))
def _ascents(
    estimator: PolicyGradient,
    size: int,
    state: Any,
    logits: jax.Array,
    wrote: jax.Array,
    rewards: jax.Array,
    hidden: jax.Array,
) -> jax.Array:
    def loss(logits: jax.Array, rows: jax.Array) -> jax.Array:
        sample = Sample(jnp.asarray(TOKENS)[rows], jnp.asarray(MASK)[rows], log_probs_of(wrote)[rows])
        guidance = Guidance(*(jnp.asarray(x)[rows] for x in (FOLLOWED, INTRINSIC))) if estimator.guided else None
        experience = Experience(sample, rewards[rows], hidden[rows], estimator.samples, guidance)
        advantages, _, _ = estimator.advantages(state, experience)
        return estimator.loss(log_probs_of(logits)[rows], experience, jax.lax.stop_gradient(advantages))

    return -jax.vmap(jax.grad(loss), (None, 0))(logits, jnp.asarray(batches(size)))


def ascents(
    estimator: PolicyGradient,
    rewards: np.ndarray,
    size: int | None = None,
    state: Any = None,
    logits: np.ndarray = LOGITS,
    wrote: np.ndarray | None = None,
    hidden: np.ndarray = HIDDEN,
) -> np.ndarray:
    """Minus the surrogate's gradient for every batch: [batches, prefixes, V].

    Args:
        size: texts a batch; default: the estimator's texts a prompt.
        state: the estimator's; default: its first.
        wrote: logits of the policy that wrote the texts; default: the same.
    """
    state = estimator.init(hidden.shape[-1]) if state is None else state
    arrays = (jnp.asarray(x) for x in (logits, logits if wrote is None else wrote, rewards, hidden))
    return np.asarray(_ascents(estimator, size or estimator.samples, state, *arrays))


def expected_gradient(
    estimator: PolicyGradient,
    rewards: np.ndarray,
    size: int | None = None,
    state: Any = None,
    logits: np.ndarray = LOGITS,
    wrote: np.ndarray | None = None,
    hidden: np.ndarray = HIDDEN,
) -> np.ndarray:
    """Their mean over all batches, each weighted by its probability under the policy that wrote it."""
    weights = batch_chances(size or estimator.samples, logits if wrote is None else wrote)
    return np.tensordot(weights, ascents(estimator, rewards, size, state, logits, wrote, hidden), axes=1)


def variance(
    estimator: PolicyGradient,
    rewards: np.ndarray,
    size: int | None = None,
    state: Any = None,
    hidden: np.ndarray = HIDDEN,
) -> float:
    """Of the gradient over batches, summed over its entries."""
    found = ascents(estimator, rewards, size, state, hidden=hidden)
    weights = batch_chances(size or estimator.samples)
    mean = np.tensordot(weights, found, axes=1)
    return float(np.tensordot(weights, np.square(found - mean), axes=1).sum())
