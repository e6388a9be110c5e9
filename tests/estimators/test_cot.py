"""CoT's expected gradient, over all texts of a tiny vocabulary: exact with the future, its stated bias without.

A divergence is computed in float32, as everywhere; all else is in float64.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimators.enumeration import (
    LOGITS,
    MASK,
    OTHER_LOGITS,
    PREFIXES,
    STATES,
    TEXTS,
    TOKENS,
    T,
    V,
    chances,
    exact_gradient,
    log_probs_of,
    returns_of,
    score_functions,
    softmax,
)

from gptgan_jax import cot

GENERATED, REAL = chances(LOGITS), chances(OTHER_LOGITS)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def gradients(future: bool, mediator: np.ndarray, logits: np.ndarray = LOGITS) -> np.ndarray:
    """Of the loss of every text as a batch of its own, [texts, prefixes, V]; the padding is read as some prefix."""

    def of_text(logits: jax.Array, states: jax.Array, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        at = (x[states][None] for x in (logits, jnp.asarray(mediator)))
        return cot(future).loss(*at, tokens[None], mask[None])[0]

    texts = jnp.asarray(STATES), jnp.asarray(TOKENS), jnp.asarray(MASK)
    return np.asarray(jax.jit(jax.vmap(jax.grad(of_text), (None, 0, 0, 0)))(jnp.asarray(logits), *texts))


def expected_gradient(future: bool, mediator: np.ndarray, logits: np.ndarray = LOGITS) -> np.ndarray:
    """Their mean over texts by their probability, [prefixes, V]."""
    return np.tensordot(chances(logits), gradients(future, mediator, logits), axes=1)


def log_ratios(mediator: np.ndarray) -> np.ndarray:
    """log G / M of each text, by NumPy."""
    return np.log(GENERATED / chances(mediator))


def best_mediator() -> np.ndarray:
    """Logits of the language model that gives each text the mean of its two probabilities."""
    counts = np.zeros((len(PREFIXES), V))
    for text, chance in zip(TEXTS, (GENERATED + REAL) / 2, strict=True):
        for t in range(len(text)):
            counts[PREFIXES.index(text[:t]), text[t]] += chance
    return np.log(counts)


def test_the_best_mediator_is_the_mean_of_both() -> None:
    np.testing.assert_allclose(chances(best_mediator()), (GENERATED + REAL) / 2, rtol=1e-12)


def test_with_the_future_the_gradient_is_that_of_the_kl_of_whole_texts() -> None:
    """d/dG of E_G log G / M is E_G of (log G / M) times the score function, as the score's own mean is 0."""
    found = expected_gradient(True, OTHER_LOGITS)
    np.testing.assert_allclose(found, exact_gradient(log_ratios(OTHER_LOGITS)), atol=1e-6)
    assert np.abs(found).max() > 0.05


def test_at_the_best_mediator_it_is_twice_that_of_the_jensen_shannon_divergence() -> None:
    def divergence(logits: jax.Array) -> jax.Array:
        generated, real = jnp.exp(log_probs_of(logits).sum(axis=1)), jnp.asarray(REAL)
        mean = (generated + real) / 2
        return (generated * jnp.log(generated / mean) + real * jnp.log(real / mean)).sum() / 2

    exact = 2 * np.asarray(jax.grad(divergence)(jnp.asarray(LOGITS)))
    np.testing.assert_allclose(expected_gradient(True, best_mediator()), exact, atol=1e-6)
    assert np.abs(expected_gradient(False, best_mediator()) - exact).max() > 1e-3


def test_the_papers_gradient_credits_a_token_with_its_own_log_ratio_alone() -> None:
    """The bias: of a text's log G / M it takes to each token that token's part, and none of those after it."""
    probs, other = softmax(LOGITS), softmax(OTHER_LOGITS)
    own = np.log(probs / other)[STATES[..., None], np.arange(V)][np.arange(len(TEXTS))[:, None], np.arange(T), TOKENS]
    own = np.where(MASK, own, 0.0)
    scores = score_functions(LOGITS)
    expected = np.einsum("i,it,itpv->pv", GENERATED, own, scores)
    np.testing.assert_allclose(expected_gradient(False, OTHER_LOGITS), expected, atol=1e-6)
    later = returns_of(own, 1.0) - own
    bias = np.einsum("i,it,itpv->pv", GENERATED, later, scores)
    np.testing.assert_allclose(expected_gradient(True, OTHER_LOGITS) - expected, bias, atol=1e-6)
    assert np.abs(bias).max() > 0.01


def test_a_texts_gradient_charges_each_token_with_the_kls_after_it_and_not_with_its_own() -> None:
    """Its own would change no mean, and add noise."""
    p, ratio = softmax(LOGITS), np.log(softmax(LOGITS) / softmax(OTHER_LOGITS))
    kl = (p * ratio).sum(axis=1)
    slope, scores = p * (ratio - kl[:, None]), score_functions(LOGITS)
    expected = np.zeros((len(TEXTS), len(PREFIXES), V))
    for i, text in enumerate(TEXTS):
        for t in range(len(text)):
            expected[i, STATES[i, t]] += slope[STATES[i, t]]
            expected[i] += kl[STATES[i, t + 1 : len(text)]].sum() * scores[i, t]
    np.testing.assert_allclose(gradients(True, OTHER_LOGITS), expected, atol=1e-6)


def test_it_leads_away_from_what_the_mediator_holds_unlikely() -> None:
    for future in (False, True):
        step = LOGITS - 0.05 * expected_gradient(future, OTHER_LOGITS)
        assert (chances(step) * np.log(chances(step) / REAL)).sum() < (GENERATED * log_ratios(OTHER_LOGITS)).sum()
        np.testing.assert_allclose(expected_gradient(future, LOGITS), 0, atol=1e-6)  # nothing to gain from itself


def test_the_loss_is_a_mean_over_texts_and_the_metric_one_over_tokens() -> None:
    kl = (softmax(LOGITS) * np.log(softmax(LOGITS) / softmax(OTHER_LOGITS))).sum(axis=-1)[STATES]
    kl = np.where(MASK, kl, 0)
    at = (jnp.asarray(x)[STATES] for x in (LOGITS, OTHER_LOGITS))
    loss, metrics = cot().loss(*at, jnp.asarray(TOKENS), jnp.asarray(MASK))
    assert float(loss) == pytest.approx(kl.sum() / len(TEXTS), rel=1e-6)
    assert float(metrics["mediator_kl"]) == pytest.approx(kl.sum() / MASK.sum(), rel=1e-6)
