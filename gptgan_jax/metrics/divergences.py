"""Monte-Carlo estimates of divergences between a model and a source whose probabilities are known.

A source p such as the grammar gives log p(x) of any text, and a model q gives log q(x) exactly, for the distribution
that it is sampled from (including temperature, top-k and top-p). So a divergence is the mean, over texts drawn from one
or the other, of a function of two known numbers: unbiased, and with a standard error. The forward KL grows if the model
misses texts of the source, the reverse KL if it generates texts that the source doesn't, and the Jensen-Shannon
divergence, which the original GAN minimises (Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661), counts both.

Impossible texts. A grammar gives most strings probability 0, and a neural model generates some of them, so its reverse
KL is infinite. It is reported as +inf, with no error. With a clipped log p the figure would mostly depend on the clip;
without such texts it would reward a model for failing completely rather than narrowly. Three other figures are finite:

- `possible`: the share of the model's text that is possible under the source;
- `reverse_kl_of_possible`: KL(q(.|possible) || p), always finite, and 0 only if that part of the model's text has the
  source's distribution; it does not depend on the size of that part;
- `jensen_shannon`, which needs no special treatment: an impossible text has p = 0, m = q/2, and costs log 2 like any
  other text that has probability 0 under one of the two.

The forward KL is likewise +inf if top-k or top-p excludes a real text from the model. An infinite estimate proves that
the divergence is infinite; a finite one only shows that no such text was drawn.

The log-probabilities must be those of the texts. If two token sequences decode to the same text and log q is that of
one of them, q(x) is too small: the forward KL is then too large, the reverse KL too small.

Literature: Kullback & Leibler (1951), "On information and sufficiency"; Jeffreys (1946), "An invariant form for the
prior probability in estimation problems" (the sum of both); Lin (1991), "Divergence measures based on the Shannon
entropy" (Jensen-Shannon); Efron & Stein (1981), "The jackknife estimate of variance".
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from gptgan_jax.errors import suggests_names
from gptgan_jax.metrics.estimates import Estimate, mean_of, sum_of_independent
from gptgan_jax.sources.pcfg import PCFG


@dataclass(frozen=True)
class LogProbs:
    """Exact log-probabilities of the same N texts under source and model.

    Attributes:
        source: log p(x), nats per text, float64 [N]; -inf if x is impossible under the source.
        model: log q(x), nats per text, float64 [N]; -inf if x is impossible under the model, as with top-k and top-p.
    """

    source: np.ndarray
    model: np.ndarray


@dataclass(frozen=True)
class Divergences:
    """The result of `divergences`, in nats per text unless noted, with standard errors over texts.

    Attributes:
        forward_kl: KL(p||q) = E_p[log p - log q], over real texts; +inf if one is impossible for the model.
        reverse_kl: KL(q||p) = E_q[log q - log p], over the model's texts; +inf if one is impossible for the source.
        sum: forward plus reverse KL, Jeffreys' divergence.
        jensen_shannon: 1/2 E_p[log p/m] + 1/2 E_q[log q/m] with m = (p + q) / 2. It lies in [0, log 2]; its estimate
            never exceeds log 2, and may fall below 0 by its error, as it is not clipped.
        possible: P_q(the text is possible under the source), a share, with the binomial error.
        reverse_kl_of_possible: KL(q(.|possible) || p) = E_q[log q - log p | possible] - log P_q(possible); undefined
            if no text is possible.
        source_nll_of_possible: E_q[-log p | possible]; undefined if no text is possible.
    """

    forward_kl: Estimate
    reverse_kl: Estimate
    sum: Estimate
    jensen_shannon: Estimate
    possible: Estimate
    reverse_kl_of_possible: Estimate
    source_nll_of_possible: Estimate


@suggests_names
def divergences(real: LogProbs, written: LogProbs) -> Divergences:
    """Estimates the divergences between a source and a model; see the module's docstring for impossible texts.

    Both sets must be independent, unfiltered draws: one from the source, one from the model's distribution as given by
    its log-probabilities. Their numbers may differ.

    Args:
        real: of N texts drawn from the source.
        written: of M texts drawn from the model.

    Raises:
        ValueError: fewer than two texts in a set, arrays that are not of one rank-1 shape, NaN or +inf, a real text
            that is impossible under the source, or a generated text that is impossible under the model.
    """
    real_p, real_q = _checked("real", real)
    written_p, written_q = _checked("written", written)
    if np.isneginf(real_p).any():
        raise ValueError("a real text has probability 0 under the source, so it was not drawn from the source")
    if np.isneginf(written_q).any():
        raise ValueError("a generated text has probability 0 under the model, so the model did not generate it")
    # A text has a finite log-probability under the distribution that it was drawn from, so there is no -inf - -inf.
    forward = _mean(real_p - real_q)
    reverse = _mean(written_q - written_p)
    is_possible = np.isfinite(written_p)
    possible = mean_of(is_possible)
    return Divergences(
        forward_kl=forward,
        reverse_kl=reverse,
        sum=sum_of_independent(forward, reverse),
        jensen_shannon=sum_of_independent(
            mean_of(_log_ratio_to_mixture(real_p, real_q) / 2), mean_of(_log_ratio_to_mixture(written_q, written_p) / 2)
        ),
        possible=possible,
        reverse_kl_of_possible=_renormalised(mean_of((written_q - written_p)[is_possible]), possible),
        source_nll_of_possible=mean_of(-written_p[is_possible]),
    )


def grammar_log_probs(texts: Sequence[str], grammar: PCFG, finished: np.ndarray | None = None) -> np.ndarray:
    """Log-probability of each text under a grammar, in nats per text; equal texts are parsed once.

    Args:
        texts: N strings.
        grammar: the source.
        finished: bool [N], which texts ended by themselves. A text that was cut off before its end-of-text token is
            impossible under the source, whatever its words. None if all ended.

    Returns:
        float64 [N]; -inf for a text that is not grammatical (the empty one is not) or did not end.

    Raises:
        ValueError: `finished` is not of shape [N].
    """
    ended = np.ones(len(texts), bool) if finished is None else np.asarray(finished, bool)
    if ended.shape != (len(texts),):
        raise ValueError(f"finished should be [{len(texts)}], one for each text, not {list(ended.shape)}")
    known = {text: grammar.log_prob(text) for text in dict.fromkeys(compress(texts, ended))}
    return np.array([known[text] if end else -math.inf for text, end in zip(texts, ended, strict=True)], np.float64)


def rule_coverage(texts: Sequence[str], grammar: PCFG) -> Estimate:
    """Share of the grammar's rules, including those for words, that the texts use at least once.

    A text uses the rules of its most probable derivation; one that is not grammatical uses none, but still counts as a
    text. Coverage grows with the number of texts, so compare only equal numbers.

    The error is that of the delete-one-text jackknife, which for a figure of this kind tends to be too large
    (Efron & Stein 1981). It takes one pass: without text i, only the rules that no other text uses are lost.

    Args:
        texts: N strings.
        grammar: the source.

    Returns:
        the share, in [0, 1]; undefined for no texts, and without an error for one.
    """
    count = len(texts)
    if not count:
        return Estimate(None)
    rules_of = {text: frozenset(grammar.derivation(text) or ()) for text in dict.fromkeys(texts)}
    users = Counter(rule for text in texts for rule in rules_of[text])
    value = len(users) / len(grammar.rules)
    if count == 1:
        return Estimate(value)
    lost = np.array([sum(users[rule] == 1 for rule in rules_of[text]) for text in texts]) / len(grammar.rules)
    return Estimate(value, math.sqrt((count - 1) / count * np.square(lost - lost.mean()).sum()))


def _checked(name: str, given: LogProbs) -> tuple[np.ndarray, np.ndarray]:
    """The arrays of one set of texts, source first, in float64."""
    source, model = np.asarray(given.source, np.float64), np.asarray(given.model, np.float64)
    if source.ndim != 1 or source.shape != model.shape:
        raise ValueError(
            f"{name}: the log-probabilities should be [N] and [N], not {list(source.shape)} and {list(model.shape)}"
        )
    if len(source) < 2:
        raise ValueError(f"{name}: a standard error needs at least 2 texts, not {len(source)}")
    for whose, values in (("source", source), ("model", model)):
        if np.isnan(values).any() or np.isposinf(values).any():
            raise ValueError(f"{name}: a log-probability of the {whose}'s is NaN or +inf")
    return source, model


def _log_ratio_to_mixture(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """log(own / m), m the mean of both: [N], at most log 2. `own` is finite, `other` may be -inf."""
    return math.log(2) - np.logaddexp(0.0, other - own)


def _mean(values: np.ndarray) -> Estimate:
    """The mean; if a value is +inf, so is the mean, and it has no error."""
    return Estimate(math.inf) if np.isposinf(values).any() else mean_of(values)


def _renormalised(mean_log_ratio: Estimate, possible: Estimate) -> Estimate:
    """E[log q - log p | possible] - log P(possible), by the delta method."""
    if mean_log_ratio.value is None:
        return Estimate(None)
    assert possible.value is not None
    assert possible.error is not None
    value = mean_log_ratio.value - math.log(possible.value)
    if mean_log_ratio.error is None:
        return Estimate(value)
    # To first order, text i moves the mean by 1_i (d_i - mean) / (n P) and log P by (1_i - P) / (n P), d_i being its
    # log-ratio and 1_i whether it is possible. The covariance of these is (1 - P) sum_i 1_i (d_i - mean), which is 0:
    # the number of possible texts is uncorrelated with their log-ratios. So the two errors add in quadrature.
    return Estimate(value, math.hypot(mean_log_ratio.error, possible.error / possible.value))
