"""Divergences against sums over a language of 15 sentences, their errors against repeated draws, and rule coverage
against sets."""

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptgan_jax.metrics.divergences import Divergences, LogProbs, divergences, grammar_log_probs, rule_coverage
from gptgan_jax.metrics.estimates import Estimate
from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.sources.pcfg import PCFG, Rule, rules_from_text

# "tom sleeps" and "tom sees tom" have two derivations; Short is the less probable of the first, the more of the second.
GRAMMAR = PCFG(
    tuple(
        rules_from_text("""
        S -> Np Vp 5 | Np sees Np 2 | Short 1
        Short -> tom sleeps 3 | tom sees tom 1
        Np -> the N 2 | tom 1
        N -> cat 3 | dog 1
        Vp -> sleeps 2 | runs 1
        """)
    )
)
SALAD = ("", "tom", "the cat sleeps tom", "cat the runs", "the  cat runs", "the zebra runs")

INF = math.inf
NAMES = tuple(Divergences.__dataclass_fields__)


def derivations(symbols: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Fraction, tuple[Rule, ...]]]:
    """Words, probability and rules of everything that the symbols derive, without the grammar's own parser."""
    if not symbols:
        yield (), Fraction(1), ()
        return
    rules = [rule for rule in GRAMMAR.rules if rule.left == symbols[0]]
    heads: list = [
        (words, Fraction(rule.probability).limit_denominator(100) * share, (rule, *used))
        for rule in rules
        for words, share, used in derivations(rule.right)
    ]
    for words, share, used in heads or [((symbols[0],), Fraction(1), ())]:
        for more_words, more_share, more_used in derivations(symbols[1:]):
            yield words + more_words, share * more_share, used + more_used


def language() -> tuple[dict[str, Fraction], dict[str, tuple[Fraction, tuple[Rule, ...]]]]:
    """Of each sentence: its probability, and its most probable derivation after that one's probability."""
    probability: dict[str, Fraction] = {}
    best: dict[str, tuple[Fraction, tuple[Rule, ...]]] = {}
    for words, share, used in derivations(("S",)):
        sentence = " ".join(words)
        probability[sentence] = probability.get(sentence, Fraction(0)) + share
        best[sentence] = max(best.get(sentence, (Fraction(0), ())), (share, used))
    return probability, best


PROBABILITY, BEST = language()
SENTENCES = sorted(PROBABILITY)
OUTCOMES = (*SENTENCES, *SALAD)
P = np.array([PROBABILITY.get(text, Fraction(0)) for text in OUTCOMES])
UNIT = 288  # every probability of the language is a whole number of 288ths


def model(kept: int, salad: int) -> np.ndarray:
    """Whole weights of all outcomes: 0 but for the `kept` most probable sentences; `salad` scales what is none."""
    rank = np.argsort(np.argsort(-P[: len(SENTENCES)].astype(float), kind="stable"))
    shape = 1 + 7 * np.arange(len(SENTENCES)) % 5
    sentences = np.where(rank < kept, shape, 0)
    return np.concatenate([sentences, salad * np.arange(1, len(SALAD) + 1)])


MODELS = {
    "possible": model(kept=15, salad=0),
    "with salad": model(kept=15, salad=2),
    "cut to the most probable": model(kept=6, salad=0),
    "cut and with salad": model(kept=6, salad=1),
    "nothing but salad": model(kept=0, salad=1),
}


def logs(shares: np.ndarray) -> np.ndarray:
    shares = shares.astype(float)
    return np.log(shares, out=np.full(len(shares), -INF), where=shares > 0)


def log_probs(drawn: np.ndarray, weights: np.ndarray) -> LogProbs:
    """Of the outcomes with the indices `drawn`, under the grammar and under the model with these weights."""
    return LogProbs(logs(P)[drawn], logs(weights / weights.sum())[drawn])


def draw(rng: np.random.Generator, weights: np.ndarray, real: int, written: int) -> Divergences:
    p, q = P.astype(float), weights / weights.sum()
    return divergences(
        log_probs(rng.choice(len(OUTCOMES), real, p=p), weights),
        log_probs(rng.choice(len(OUTCOMES), written, p=q), weights),
    )


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return sum(float(a) * math.log(a / b) if b else INF for a, b in zip(p, q, strict=True) if a)


def exact(weights: np.ndarray) -> dict[str, float | None]:
    """Every figure by its sum over the outcomes, from probabilities, not from their logarithms."""
    p, q = P, np.array([Fraction(int(w), int(weights.sum())) for w in weights])
    possible = q[: len(SENTENCES)].sum()
    restricted = np.where(p > 0, q, 0) / possible if possible else None
    mixture = (p + q) / 2
    return {
        "forward_kl": kl(p, q),
        "reverse_kl": kl(q, p),
        "sum": kl(p, q) + kl(q, p),
        "jensen_shannon": (kl(p, mixture) + kl(q, mixture)) / 2,
        "possible": float(possible),
        "reverse_kl_of_possible": None if restricted is None else kl(restricted, p),
        "source_nll_of_possible": None
        if restricted is None
        else sum(-float(share) * math.log(a) for share, a in zip(restricted, p, strict=True) if a),
    }


def small(real: LogProbs | None = None, written: LogProbs | None = None) -> Divergences:
    plain = LogProbs(np.array([-1.0, -2.0, -1.5]), np.array([-1.2, -1.0, -3.0]))
    return divergences(real or plain, written or plain)


def test_the_language_by_hand_is_that_of_the_grammar() -> None:
    assert len(SENTENCES) == 15
    assert sum(PROBABILITY.values()) == 1
    assert all((share * UNIT).denominator == 1 for share in PROBABILITY.values())
    np.testing.assert_allclose(grammar_log_probs(SENTENCES, GRAMMAR), logs(P)[: len(SENTENCES)], rtol=1e-12)
    assert GRAMMAR.derivation("tom sleeps") == BEST["tom sleeps"][1]
    assert GRAMMAR.count_derivations("tom sleeps") == 2


@pytest.mark.parametrize("name", MODELS)
def test_texts_in_exactly_their_proportions_give_the_sums_over_all_outcomes(name: str) -> None:
    weights = MODELS[name]
    real = np.repeat(np.arange(len(OUTCOMES)), (P * UNIT).astype(int))
    written = np.repeat(np.arange(len(OUTCOMES)), weights)
    found = divergences(log_probs(real, weights), log_probs(written, weights))
    for figure, value in exact(weights).items():
        assert getattr(found, figure).value == (value and pytest.approx(value, rel=1e-12)), figure


@pytest.mark.parametrize("name", MODELS)
def test_estimates_from_drawn_texts_lie_within_their_errors_of_the_sums(name: str) -> None:
    found = draw(np.random.default_rng(0), MODELS[name], 4000, 4000)
    for figure, value in exact(MODELS[name]).items():
        estimate = getattr(found, figure)
        if value is None or math.isinf(value):
            assert estimate == Estimate(value), figure
        else:
            assert abs(estimate.value - value) <= 4 * estimate.error + 1e-12, figure
            assert estimate.error < 0.05, figure


@pytest.mark.parametrize("name", MODELS)
def test_errors_are_the_spread_of_repeated_draws(name: str) -> None:
    rng = np.random.default_rng(1)
    repeats = [draw(rng, MODELS[name], 400, 300) for _ in range(1000)]
    finite = [figure for figure, value in exact(MODELS[name]).items() if value is not None and math.isfinite(value)]
    assert len(finite) >= 2
    for figure in finite:
        estimates = [getattr(found, figure) for found in repeats]
        spread = np.std([estimate.value for estimate in estimates], ddof=1)
        # The spread of 1000 draws is itself known to 2 %.
        assert np.mean([estimate.error for estimate in estimates]) == pytest.approx(spread, rel=0.1, abs=1e-12), figure


def test_the_models_used_here_exercise_every_figure() -> None:
    values = {figure: [exact(weights)[figure] for weights in MODELS.values()] for figure in NAMES}
    assert all(sum(value is not None and 0.03 < value < INF for value in values[figure]) >= 1 for figure in NAMES)
    assert exact(MODELS["with salad"])["reverse_kl"] == INF
    assert exact(MODELS["cut to the most probable"])["forward_kl"] == INF
    assert exact(MODELS["with salad"])["possible"] == pytest.approx(0.5, abs=0.1)


def test_sentences_drawn_by_the_grammar_itself_give_the_sums_too() -> None:
    weights = MODELS["with salad"]
    rng = np.random.default_rng(2)
    real = GRAMMAR.sample(rng, 4000)
    written = [OUTCOMES[i] for i in rng.choice(len(OUTCOMES), 3000, p=weights / weights.sum())]
    log_q = dict(zip(OUTCOMES, logs(weights / weights.sum()), strict=True))
    found = divergences(
        *(LogProbs(grammar_log_probs(texts, GRAMMAR), np.array([log_q[t] for t in texts])) for texts in (real, written))
    )
    for figure, value in exact(weights).items():
        estimate = getattr(found, figure)
        assert estimate == Estimate(value) or abs(estimate.value - value) <= 4 * estimate.error, figure


def test_a_model_that_is_the_source_is_at_no_distance() -> None:
    found = draw(np.random.default_rng(3), (P * UNIT).astype(int), 50, 70)
    assert found.forward_kl == found.reverse_kl == found.sum == found.reverse_kl_of_possible
    for estimate in (found.sum, found.jensen_shannon):
        assert estimate == Estimate(pytest.approx(0, abs=1e-14), pytest.approx(0, abs=1e-14))
    assert found.possible == Estimate(1.0, 0.0)
    assert found.source_nll_of_possible.value > 1


def test_a_model_that_shares_no_text_with_the_source_is_at_log_2_and_infinity() -> None:
    assert draw(np.random.default_rng(4), MODELS["nothing but salad"], 50, 70) == Divergences(
        forward_kl=Estimate(INF),
        reverse_kl=Estimate(INF),
        sum=Estimate(INF),
        jensen_shannon=Estimate(pytest.approx(math.log(2), abs=1e-15), pytest.approx(0, abs=1e-15)),
        possible=Estimate(0.0, 0.0),
        reverse_kl_of_possible=Estimate(None),
        source_nll_of_possible=Estimate(None),
    )


def test_a_model_that_cannot_write_some_sentences_is_infinitely_far_one_way_only() -> None:
    found = draw(np.random.default_rng(5), MODELS["cut to the most probable"], 300, 300)
    assert found.forward_kl == found.sum == Estimate(INF)
    assert found.reverse_kl.error is not None
    assert found.reverse_kl_of_possible == found.reverse_kl
    assert found.possible == Estimate(1.0, 0.0)


def test_one_impossible_text_is_enough_for_infinity() -> None:
    found = small(written=LogProbs(np.array([-1.0, -INF, -2.0]), np.array([-1.5, -9.0, -1.0])))
    assert found.reverse_kl == found.sum == Estimate(INF)
    assert found.forward_kl.error is not None
    assert found.possible.value == pytest.approx(2 / 3)
    assert found.reverse_kl_of_possible.value == pytest.approx((-0.5 + 1.0) / 2 - math.log(2 / 3))
    assert found.source_nll_of_possible == Estimate(pytest.approx(1.5), pytest.approx(0.5))
    found = small(real=LogProbs(np.array([-1.0, -9.0, -2.0]), np.array([-1.5, -INF, -1.0])))
    assert found.forward_kl == found.sum == Estimate(INF)
    assert found.reverse_kl.error is not None


def test_a_single_possible_text_has_a_spread_without_an_error() -> None:
    found = small(written=LogProbs(np.array([-1.0, -INF, -INF]), np.array([-1.5, -9.0, -1.0])))
    assert found.reverse_kl_of_possible == Estimate(pytest.approx(-0.5 + math.log(3)), None)
    assert found.source_nll_of_possible == Estimate(1.0, None)


def test_the_error_of_the_restricted_divergence_is_that_of_its_influence_function() -> None:
    rng = np.random.default_rng(6)
    possible = rng.random(5000) < 0.4
    source = np.where(possible, rng.normal(-20, 2, 5000), -INF)
    log_q = rng.normal(-19, 3, 5000)
    found = small(written=LogProbs(source, log_q)).reverse_kl_of_possible
    ratio = np.where(possible, log_q - np.where(possible, source, 0), 0)
    share = possible.mean()
    influence = (ratio - ratio.sum() / possible.sum()) * possible / share - (possible - share) / share
    assert found.error == pytest.approx(influence.std() / math.sqrt(5000), rel=1e-3)


def test_source_and_model_in_each_others_place_swap_the_two_divergences() -> None:
    rng = np.random.default_rng(7)
    real, written = (LogProbs(*(rng.normal(-30, 4, (2, count)))) for count in (9, 7))
    found = divergences(real, written)
    swapped = divergences(LogProbs(written.model, written.source), LogProbs(real.model, real.source))
    assert swapped.forward_kl == found.reverse_kl
    assert swapped.reverse_kl == found.forward_kl
    assert swapped.sum.value == pytest.approx(found.sum.value)
    assert swapped.jensen_shannon.value == pytest.approx(found.jensen_shannon.value)


@pytest.mark.parametrize("gap", [0.0, 1e-9, 700.0, 5000.0, 1e6])
def test_texts_of_any_improbability_neither_overflow_nor_lose_their_digits(gap: float) -> None:
    low, high = np.full(3, -1e6 - gap), np.full(3, -1e6)
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        found = divergences(LogProbs(high, low), LogProbs(low, high))
        against = divergences(LogProbs(low, high), LogProbs(high, low))  # texts that the other finds more probable
    assert found.forward_kl.value == found.reverse_kl.value == 1e6 + gap - 1e6
    share = math.exp(-found.forward_kl.value)  # how much less probable the other finds each text
    assert found.jensen_shannon.value == pytest.approx(math.log(2 / (1 + share)), rel=1e-12)
    expected = math.log(2 / (1 + share)) - found.forward_kl.value
    assert against.jensen_shannon.value == pytest.approx(expected, rel=1e-12)


def test_float32_input_is_summed_in_float64() -> None:
    rng = np.random.default_rng(8)
    real, written = (rng.normal(-80, 5, (2, 1001)).astype(np.float32) for _ in range(2))
    single = divergences(LogProbs(*real), LogProbs(*written))
    double = divergences(LogProbs(*real.astype(float)), LogProbs(*written.astype(float)))
    assert single == double


@pytest.mark.parametrize("side", ["real", "written"])
@pytest.mark.parametrize(
    ("source", "log_q", "message"),
    [
        ([-1.0, math.nan], [-1.0, -1.0], "NaN or"),
        ([-1.0, -1.0], [math.nan, -1.0], "NaN or"),
        ([-1.0, INF], [-1.0, -1.0], "NaN or"),
        ([-1.0, -1.0], [INF, -1.0], "NaN or"),
        ([-1.0, -1.0, -1.0], [-1.0, -1.0], r"\[3\] and \[2\]"),
        ([[-1.0, -1.0]], [[-1.0, -1.0]], r"\[1, 2\]"),
        ([-1.0], [-1.0], "at least 2 texts, not 1"),
        ([], [], "at least 2 texts, not 0"),
    ],
)
def test_numbers_that_are_no_log_probabilities_are_refused(side: str, source: list, log_q: list, message: str) -> None:
    with pytest.raises(ValueError, match=f"{side}: .*{message}"):
        small(**{side: LogProbs(np.array(source), np.array(log_q))})


def test_texts_that_their_own_writer_cannot_have_written_are_refused() -> None:
    with pytest.raises(ValueError, match="it was not drawn from the source"):
        small(real=LogProbs(np.array([-1.0, -INF]), np.array([-1.0, -1.0])))
    for source in (-1.0, -INF):
        with pytest.raises(ValueError, match="the model did not generate it"):
            small(written=LogProbs(np.array([-1.0, source]), np.array([-1.0, -INF])))


def test_what_is_no_sentence_or_never_ended_is_impossible() -> None:
    assert (grammar_log_probs(SALAD, GRAMMAR) == -INF).all()
    found = grammar_log_probs(["tom runs", "tom runs", "cat the"], GRAMMAR, np.array([True, False, True]))
    assert found.tolist() == [GRAMMAR.log_prob("tom runs"), -INF, -INF]
    assert found.dtype == np.float64
    assert grammar_log_probs(["tom runs"], GRAMMAR, np.array([True]))[0] == grammar_log_probs(["tom runs"], GRAMMAR)[0]
    assert grammar_log_probs([], GRAMMAR).shape == (0,)


def test_equal_texts_are_parsed_once_and_unended_ones_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = PCFG.log_prob
    monkeypatch.setattr(PCFG, "log_prob", lambda self, text: parsed.append(text) or parse(self, text))
    found = grammar_log_probs(["tom runs", "tom", "tom runs", "tom runs", "tom sleeps"], GRAMMAR, np.arange(5) < 4)
    assert parsed == ["tom runs", "tom"]
    assert found[0] == found[2] == found[3] > -INF


@pytest.mark.parametrize("finished", [np.array([True]), np.ones((2, 1), bool), np.array(True)])
def test_as_many_endings_as_texts_are_asked_for(finished: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"finished should be \[2\]"):
        grammar_log_probs(["tom runs", "tom"], GRAMMAR, finished)


def share_of_rules(texts: list[str]) -> float:
    return len({rule for text in texts if text in BEST for rule in BEST[text][1]}) / len(GRAMMAR.rules)


@given(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_rule_coverage_is_that_of_sets_and_its_error_that_of_leaving_each_text_out(texts: list[str]) -> None:
    found = rule_coverage(texts, GRAMMAR)
    assert found.value == pytest.approx(share_of_rules(texts))
    if len(texts) == 1:
        assert found.error is None
    else:
        without = np.array([share_of_rules(texts[:i] + texts[i + 1 :]) for i in range(len(texts))])
        error = math.sqrt((len(texts) - 1) / len(texts) * ((without - without.mean()) ** 2).sum())
        assert found.error == pytest.approx(error, abs=1e-12)


def test_rule_coverage_by_hand() -> None:
    # The whole language leaves out one of the 11 rules: "Short -> tom sleeps" is never the more probable derivation.
    assert rule_coverage(SENTENCES, GRAMMAR).value == pytest.approx(10 / 11)
    # S -> Np Vp, Np -> tom, Vp -> runs; then Np -> the N, N -> cat more. Without them 5 are 3, or 4: Np -> tom is gone,
    # and Vp -> runs and S -> Np Vp stay.
    found = rule_coverage(["tom runs", "the cat runs"], GRAMMAR)
    assert found == Estimate(pytest.approx(5 / 11), pytest.approx(math.sqrt((0.5**2 + 0.5**2) / 2) / 11))
    assert rule_coverage(["the cat sees the cat"], GRAMMAR) == Estimate(pytest.approx(3 / 11))
    assert rule_coverage(list(SALAD), GRAMMAR) == Estimate(0.0, 0.0)
    assert rule_coverage([], GRAMMAR) == Estimate(None)


def test_the_english_grammar_is_covered_the_more_the_more_texts() -> None:
    grammar = english_scenes()
    texts = grammar.sample(np.random.default_rng(9), 100)
    few, many = rule_coverage(texts[:30], grammar), rule_coverage(texts, grammar)
    assert 0 < few.value < many.value < 1
    used = {rule for text in texts for rule in grammar.derivation(text)}
    assert many.value == len(used) / len(grammar.rules)
    assert 0 < many.error < 0.02
