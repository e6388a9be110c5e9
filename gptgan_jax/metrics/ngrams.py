"""N-gram figures of a set of texts: BLEU against references, Self-BLEU, diversity and repetition.

All of them use one table per order: the count of each n-gram in each text that has it. Words become integers, an
n-gram's integer comes from that of its first n - 1 words and its last word, and counting is by sorting, so the cost is
n log n in the number of words, for any number of pairs of text and reference.

BLEU is sentence BLEU (Papineni et al. 2002) with method 1 of Chen and Cherry (2014) for orders without a match, as in
NLTK's `sentence_bleu`. Words are used as they are, without lowercasing or splitting.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from gptgan_jax.errors import suggests_names
from gptgan_jax.metrics.estimates import Estimate, mean_of

Words = Sequence[str]  # a text as words; a bare string would be read as its letters

_MATCHES_OF_NONE = 0.1  # method 1's epsilon, as in NLTK


def words_of(texts: Sequence[str]) -> list[list[str]]:
    """The words of each text, split at white space."""
    return [text.split() for text in texts]


@suggests_names
def bleu(
    texts: Sequence[Words], references: Sequence[Words], orders: Sequence[int] = (2, 3, 4, 5)
) -> dict[int, np.ndarray]:
    """Sentence BLEU of each text against all references at once (Papineni et al. 2002), in [0, 1].

    BLEU-n is the geometric mean of the precisions of 1 to n words, each n-gram matching at most as often as it occurs
    in one reference, times a penalty for a text shorter than the reference closest in length (the shorter in case of a
    tie). An order without a match counts as 0.1 of a match (Chen and Cherry 2014, method 1); a text without a
    matching word scores 0. The mean over generated texts against held-out ones is the quality axis of Texygen (Zhu et
    al. 2018). It grows with the number of references, so compare only equal numbers.

    Args:
        texts: N texts, which may be empty.
        references: at least one text.
        orders: the n of each BLEU-n.

    Returns:
        float64 [N] per order.

    Raises:
        ValueError: no texts, no references, or an order below 1.
    """
    if not len(texts):
        raise ValueError("BLEU needs at least one text")
    if not len(references):
        raise ValueError("BLEU needs at least one reference")
    _check_orders(orders)
    matches = [
        _matches(counts, _most_in_a_reference(counts, len(texts)), len(texts))
        for counts in _ngram_counts([*texts, *references], max(orders, default=0))
    ]
    lengths = _lengths(texts)
    sizes = np.unique(_lengths(references))
    above = np.searchsorted(sizes, lengths)
    closest = _nearer(lengths, sizes[np.maximum(above - 1, 0)], sizes[np.minimum(above, len(sizes) - 1)])
    return _scores(matches, lengths, closest, orders)


@suggests_names
def self_bleu(texts: Sequence[Words], orders: Sequence[int] = (2, 3, 4, 5)) -> dict[int, np.ndarray]:
    """Sentence BLEU of each text against all the others (Zhu et al. 2018, Texygen): 1 if they are the same.

    As `bleu`; a text is not a reference of itself, but an equal one elsewhere in the list is. It grows with the number
    of texts, so compare only equal numbers. As every text is in the references of the others, the values are not
    independent, and their standard deviation over sqrt(N) is not the standard error of their mean.

    Args:
        texts: N texts, at least two, which may be empty.
        orders: the n of each BLEU-n.

    Returns:
        float64 [N] per order.

    Raises:
        ValueError: fewer than two texts, or an order below 1.
    """
    if len(texts) < 2:
        raise ValueError(f"Self-BLEU needs at least two texts, not {len(texts)}")
    _check_orders(orders)
    matches = [
        _matches(counts, _most_in_another(counts), len(texts))
        for counts in _ngram_counts(texts, max(orders, default=0))
    ]
    lengths = _lengths(texts)
    return _scores(matches, lengths, _closest_other(lengths), orders)


@suggests_names
def distinct_ngrams(texts: Sequence[Words], n: int) -> Estimate:
    """Distinct-n (Li et al. 2016): different n-grams over all n-grams of the texts, a share.

    It falls with the number of texts, so compare only equal numbers. The standard error is that of the jackknife over
    texts. It tends to be too large (Efron and Stein 1981): 1.2 to 1.4 times the spread over fresh sets of sentences of
    the built-in grammar. There is no error if one text has all n-grams, and no value without n-grams.

    Raises:
        ValueError: n below 1.
    """
    counts = _ngram_counts_of(texts, n)
    ngrams = np.maximum(_lengths(texts) - n + 1, 0)
    if not ngrams.sum():
        return Estimate(None)
    value = len(counts.spread) / int(ngrams.sum())
    rest = ngrams.sum() - ngrams
    if not rest.all():
        return Estimate(value)
    # Without a text, only the n-grams that occur nowhere else are lost.
    own = np.bincount(counts.text[counts.spread[counts.gram] == 1], minlength=len(texts))
    left_out = (len(counts.spread) - own) / rest
    return Estimate(value, math.sqrt((len(texts) - 1) * left_out.var()))


@suggests_names
def repetition(texts: Sequence[Words], n: int) -> Estimate:
    """seq-rep-n (Welleck et al. 2020): 1 - different n-grams over n-grams within a text, a share.

    The mean over the texts that have an n-gram, with its standard error; no value if none has.

    Raises:
        ValueError: n below 1.
    """
    counts = _ngram_counts_of(texts, n)
    ngrams = _lengths(texts) - n + 1
    different = np.bincount(counts.text, minlength=len(texts))
    return mean_of(1 - different[ngrams > 0] / ngrams[ngrams > 0])


@suggests_names
def distinct_texts(texts: Sequence[str]) -> Estimate:
    """The share of different texts among all, with its jackknife standard error; no value for no texts.

    It falls with the number of texts, so compare only equal numbers. The error tends to be too large, by about sqrt(2)
    if equal texts come in pairs.
    """
    return distinct_ngrams([[text] for text in texts], 1)


@dataclass(frozen=True)
class _Counts:
    """The counts of each n-gram of one order in each text that has it: one pair each, sorted by n-gram.

    Attributes:
        gram: int64 [pairs], the n-gram, numbered from 0 without gaps.
        text: int64 [pairs], the index of the text.
        count: int64 [pairs], at least 1.
        spread: int64 [n-grams], the number of texts with the n-gram.
    """

    gram: np.ndarray
    text: np.ndarray
    count: np.ndarray
    spread: np.ndarray


def _ngram_counts(texts: Sequence[Words], longest: int) -> Iterator[_Counts]:
    """The counts of each order from 1 to the longest."""
    lengths = _lengths(texts)
    words = list(chain.from_iterable(texts))
    # Not np.unique: its fixed-width strings would drop a trailing NUL and be as wide as the longest word.
    ids = {word: i for i, word in enumerate(dict.fromkeys(words))}
    word = np.fromiter(map(ids.__getitem__, words), np.int64, len(words))
    text = np.repeat(np.arange(len(texts)), lengths)
    left = np.repeat(lengths.cumsum(), lengths) - np.arange(len(words))  # words to the end of the text
    start = np.arange(len(words))
    gram = np.zeros(len(words), np.int64)
    for n in range(1, longest + 1):
        fits = left[start] >= n
        start, gram = start[fits], gram[fits]
        # Both keys are below the square of the number of words, which fits int64 up to three billion words.
        _, gram = np.unique(gram * len(ids) + word[start + n - 1], return_inverse=True)
        pairs, count = np.unique(gram * len(texts) + text[start], return_counts=True)
        gram_of_pair, text_of_pair = np.divmod(pairs, len(texts))
        yield _Counts(gram_of_pair, text_of_pair, count, np.bincount(gram_of_pair))


def ngram_jensen_shannon(texts: Sequence[Words], others: Sequence[Words], n: int) -> float:
    """Jensen-Shannon divergence between the n-gram frequencies of two sets of texts, in nats: from 0 to log 2.

    With few texts it is large even if both come from one source, so compare only equal numbers. NaN if a side has no
    n-gram. Lin (1991), "Divergence measures based on the Shannon entropy".

    Raises:
        ValueError: n below 1.
    """
    _check_orders([n])
    counts = [
        Counter(tuple(words[i : i + n]) for words in side for i in range(len(words) - n + 1))
        for side in (texts, others)
    ]
    if not all(counts):
        return math.nan
    both = sorted(set().union(*counts))
    p, q = (np.array([side[gram] for gram in both]) / side.total() for side in counts)
    mean = (p + q) / 2
    terms = [one[one > 0] @ np.log(one[one > 0] / mean[one > 0]) for one in (p, q)]
    return float(max(sum(terms) / 2, 0.0))


def _ngram_counts_of(texts: Sequence[Words], n: int) -> _Counts:
    _check_orders([n])
    *_, counts = _ngram_counts(texts, n)
    return counts


def _most_in_a_reference(counts: _Counts, first: int) -> np.ndarray:
    """int64 [pairs]: the largest count of the n-gram in a text from `first` on; 0 if none has it."""
    most = np.zeros(len(counts.spread), np.int64)
    reference = counts.text >= first
    np.maximum.at(most, counts.gram[reference], counts.count[reference])
    return most[counts.gram]


def _most_in_another(counts: _Counts) -> np.ndarray:
    """int64 [pairs]: the largest count of the n-gram in any text but the pair's own; 0 if no other has it."""
    rising = np.lexsort((counts.count, counts.gram))
    last = counts.spread.cumsum() - 1
    owner = rising[last]
    runner_up = np.where(counts.spread > 1, counts.count[rising[last - 1]], 0)
    most = counts.count[owner][counts.gram]
    most[owner] = runner_up
    return most


def _matches(counts: _Counts, most: np.ndarray, size: int) -> np.ndarray:
    """float64 [size]: how many n-grams of each of the first texts match, each at most `most` [pairs] times."""
    scored = counts.text < size
    return np.bincount(counts.text[scored], np.minimum(counts.count, most)[scored], size)


def _closest_other(lengths: np.ndarray) -> np.ndarray:
    """int64 [N]: the closest length of another text for each of at least two; the shorter in case of a tie."""
    order = np.argsort(lengths)
    rising = lengths[order]
    # The closest is adjacent by rank; the shortest and the longest text have the same neighbour on both sides.
    padded = np.concatenate([rising[1:2], rising, rising[-2:-1]])
    closest = np.empty_like(lengths)
    closest[order] = _nearer(rising, padded[:-2], padded[2:])
    return closest


def _nearer(lengths: np.ndarray, below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """The nearer of the length below and the length above, which may be equal; the one below in case of a tie."""
    return np.where(lengths - below <= above - lengths, below, above)


def _scores(
    matches: Sequence[np.ndarray], lengths: np.ndarray, closest: np.ndarray, orders: Sequence[int]
) -> dict[int, np.ndarray]:
    """BLEU of each order, from the matches [N] of each order from 1, the lengths of texts and of their references."""
    sums = np.zeros(len(lengths))
    bleus = {}
    log_penalty = np.minimum(1 - closest / np.maximum(lengths, 1), 0)
    for n, matching in enumerate(matches, start=1):
        possible = np.maximum(lengths - n + 1, 1)  # 1 for a text that is too short, as in NLTK
        sums = sums + np.log(np.where(matching > 0, matching, _MATCHES_OF_NONE) / possible)
        if n in orders:
            bleus[n] = np.where(matches[0] > 0, np.exp(log_penalty + sums / n), 0.0)
    return {n: bleus[n] for n in orders}


def _lengths(texts: Sequence[Words]) -> np.ndarray:
    return np.array([len(text) for text in texts], np.int64)


def _check_orders(orders: Sequence[int]) -> None:
    if any(n < 1 for n in orders):
        raise ValueError(f"an n-gram has at least one word, not {min(orders)}")
