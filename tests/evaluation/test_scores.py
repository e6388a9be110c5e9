"""Figures of sets of texts: each says what it was measured with, agrees with the plain function behind it, and is
defined, infinite or None, but never NaN."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gptgan_jax.config import JudgeConfig
from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.encoding import Ragged, encode_split
from gptgan_jax.data.tokenizers import (
    AnyTokenizer,
    BpeTokenizer,
    IdTokenizer,
    Tokenizer,
    WordTokenizer,
    fit_tokenizer,
)
from gptgan_jax.evaluation.memorisation import TrainingText
from gptgan_jax.evaluation.scores import (
    Ruler,
    frechet,
    judge_figures,
    likelihood_figures,
    lm_score,
    reward_figures,
    self_bleu_figures,
    source_figures,
    source_log_probs,
    text_figures,
)
from gptgan_jax.generation.texts import TextSet, Written
from gptgan_jax.metrics.distances import frechet_distance, mauve
from gptgan_jax.metrics.divergences import LogProbs, divergences, rule_coverage
from gptgan_jax.metrics.estimates import Estimate, Figure, mean_of, share_of
from gptgan_jax.metrics.ngrams import bleu, self_bleu, words_of
from gptgan_jax.scoring.held_out_likelihood import HeldOut
from gptgan_jax.scoring.judge import Judge, judge_from
from gptgan_jax.scoring.language_model import LanguageModel
from gptgan_jax.scoring.two_sample import two_sample_test
from gptgan_jax.sources.oracle import Oracle, init_oracle
from gptgan_jax.sources.pcfg import PCFG, rules_from_text
from gptgan_jax.text_rewards.config import RewardConfig
from gptgan_jax.types import Params, Vocabulary

GRAMMAR = PCFG(
    tuple(
        rules_from_text("""
        S -> Np Vp 4 | there is Np 1
        Np -> the N 2 | a N 1
        N -> cat 3 | dog 2 | bird 1
        Vp -> sleeps 2 | sees Np 1
        """)
    )
)
DRAWN = "40 texts, temperature 0.8, seed 7"
AGAINST = "30 test texts, T=9"
LENGTH = 9


def word_tokenizer() -> Tokenizer:
    tokenizer = fit_tokenizer(WordTokenizer(), Corpus(Split(), Split(), None, words=(*GRAMMAR.words, "zebra")))
    assert isinstance(tokenizer, Tokenizer)
    return tokenizer


TOKENIZER = word_tokenizer()


def as_set(texts: Sequence[str], tokenizer: AnyTokenizer = TOKENIZER) -> TextSet:
    """Texts with their regular tokens and an end."""
    rows = [[*ids, tokenizer.vocabulary.eos_id] for ids in tokenizer.encode_batch(texts)]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return TextSet(list(texts), Ragged(np.concatenate(rows).astype(np.int32), offsets))


def of_tokens(rows: Sequence[Sequence[int]], tokenizer: AnyTokenizer = TOKENIZER) -> TextSet:
    """What a writer of these tokens is taken to say."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return TextSet(
        [tokenizer.decode(row) for row in rows], Ragged(np.concatenate(list(rows)).astype(np.int32), offsets)
    )


def sentences(seed: int, count: int) -> list[str]:
    return GRAMMAR.sample(np.random.default_rng(seed), count)


class Models:
    """Judge's models without any training, that keep what they are asked: a text's nats are twice its tokens for the
    real judge and three times for a fresh one, and its embedding is drawn from its own words."""

    def __init__(self) -> None:
        self.embedded: list[TextSet] = []
        self.fitted: list[tuple[Ragged, int]] = []
        self.scored: list[tuple[float, Ragged]] = []
        self.told: list[tuple[Ragged, Ragged, int, bool]] = []

    def fit(self, targets: Ragged, seed: int) -> Params:
        self.fitted.append((targets, seed))
        return 3.0

    def score(self, params: Params, targets: Ragged) -> HeldOut:
        self.scored.append((params, targets))
        lengths = np.diff(targets.offsets)
        return HeldOut(params * lengths + np.arange(len(targets)) % 2, lengths)

    def features(self, texts: TextSet) -> np.ndarray:
        self.embedded.append(texts)
        return np.array([np.random.default_rng(list(text.encode())).normal(size=3) for text in texts.texts])

    def two_sample(self, samples: Ragged, references: Ragged, seed: int, paired: bool = False) -> Estimate:
        self.told.append((samples, references, seed, paired))
        return Estimate(0.625, 0.03)

    def judge(self) -> Judge:
        model = LanguageModel(self.fit, self.score, lambda params, targets: np.zeros((0, 3)), "2-layer GPT of width 9")
        return Judge(
            model, 2.0, self.features, self.two_sample, "500 training texts", "0123456789abcdef", "mean hidden state"
        )


def nothing_copied(texts: Sequence[str]) -> np.ndarray:
    return np.zeros(len(texts), bool)


def every_figure(samples: TextSet, references: TextSet, judge: Judge) -> list[Figure]:
    """All that there is for text of a grammar."""
    ruler = Ruler(references, TrainingText(nothing_copied, references.targets), judge, seed=11)
    lengths = np.diff(samples.targets.offsets)
    of_samples = source_log_probs(samples, GRAMMAR, TOKENIZER)
    of_references = source_log_probs(references, GRAMMAR, TOKENIZER)
    held_out = HeldOut(1.5 * np.diff(references.targets.offsets), np.diff(references.targets.offsets))
    return [
        *likelihood_figures(held_out, references.texts, AGAINST, True),
        *source_figures(
            samples,
            GRAMMAR,
            LogProbs(of_references, -held_out.nats),
            LogProbs(of_samples, -2.0 * lengths),
            DRAWN,
            AGAINST,
        ),
        *text_figures(samples, ruler, DRAWN),
        *judge_figures(samples, ruler, DRAWN),
    ]


def by_name(figures: Sequence[Figure]) -> dict[str, Figure]:
    assert len({figure.name for figure in figures}) == len(figures), "two figures of one name"
    return {figure.name: figure for figure in figures}


def assert_no_nan(figures: Sequence[Figure]) -> None:
    for figure in figures:
        for number in (figure.estimate.value, figure.estimate.error):
            assert number is None or isinstance(number, float), figure
            assert number is None or not math.isnan(number), figure


SAMPLES, REFERENCES = as_set([*sentences(0, 38), "the zebra sleeps", "cat the"]), as_set(sentences(1, 30))


# --- names, signatures, units ---

# By name: unit, better, and what a comparable figure must share besides the drawing.
FIGURES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "held-out NLL": ("nats/token", "lower", (AGAINST,)),
    "held-out perplexity": ("per token", "lower", (AGAINST,)),
    "held-out perplexity by word": ("per word", "lower", (AGAINST, "words and end of text")),
    "forward KL": ("nats/text", "lower", (AGAINST, DRAWN)),
    "reverse KL": ("nats/text", "lower", (DRAWN,)),
    "forward + reverse KL": ("nats/text", "lower", (AGAINST, DRAWN)),
    "Jensen-Shannon divergence": ("nats, at most 0.693", "lower", (AGAINST, DRAWN)),
    "reverse KL of the grammatical": ("nats/text", "lower", (DRAWN,)),
    "grammatical": ("share", "higher", (DRAWN,)),
    "source NLL of the grammatical": ("nats/text", "real", (DRAWN,)),
    "grammar rules used": ("share", "real", (DRAWN,)),
    "length": ("tokens", "real", (DRAWN,)),
    **{f"BLEU-{n}": ("", "real", (DRAWN, "30 references", "words", "method1")) for n in (2, 3, 4, 5)},
    **{f"Self-BLEU-{n}": ("", "real", (DRAWN, "each against the others", "words", "method1")) for n in (2, 3, 4, 5)},
    "distinct-1": ("share", "real", (DRAWN, "words")),
    "distinct-2": ("share", "real", (DRAWN, "words")),
    "different texts": ("share", "real", (DRAWN,)),
    "repeated 2-grams within a text": ("share", "real", (DRAWN, "words")),
    "copied from the training text": ("share", "real", (DRAWN,)),
    "longest run from the training text": ("tokens", "real", (DRAWN, "30 training texts", "tokens")),
    "longest such run of all texts": ("tokens", "real", (DRAWN, "30 training texts", "tokens")),
    "LM score": ("nats/token", "real", (DRAWN, "2-layer GPT of width 9", "500 training texts", "01234567")),
    "Fréchet distance": ("", "lower", (DRAWN, "30 of them against 30 references", "mean hidden state")),
    "MAUVE": (
        "",
        "higher",
        (DRAWN, "30 of them against 30 references", "3 clusters", "c=5", "seed 11", "mean hidden state"),
    ),
    "classifier accuracy": (
        "share",
        "real",
        (DRAWN, "30 of them against 30 references", "CNN", "60 % learned", "30 % tested", "seed 11"),
    ),
    "reverse LM score": (
        "nats/token",
        "lower",
        ("30 references", "2-layer GPT of width 9", "learned from 40 samples", DRAWN, "seed 11"),
    ),
}


def test_every_figure_has_its_name_its_unit_its_direction_and_says_what_it_was_measured_with() -> None:
    found = by_name(every_figure(SAMPLES, REFERENCES, Models().judge()))
    assert list(found) == list(FIGURES)
    for name, (unit, better, parts) in FIGURES.items():
        assert (found[name].unit, found[name].better) == (unit, better), name
        for part in parts:
            assert part in found[name].signature, name
    assert_no_nan(list(found.values()))


def test_what_is_not_known_has_no_figure() -> None:
    without = by_name(text_figures(SAMPLES, Ruler(REFERENCES), DRAWN))
    assert set(FIGURES) - set(without) >= {"copied from the training text", "grammatical", "held-out NLL"}
    assert judge_figures(SAMPLES, Ruler(REFERENCES), DRAWN) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("BLEU-4", {"references": as_set(sentences(1, 29))}),
        ("reverse LM score", {"references": as_set(sentences(1, 29))}),
        ("Fréchet distance", {"references": as_set(sentences(1, 29))}),
        ("MAUVE", {"references": as_set(sentences(1, 29))}),
        ("MAUVE", {"seed": 12}),
        ("classifier accuracy", {"seed": 12}),
        ("classifier accuracy", {"references": as_set(sentences(1, 29))}),
        ("reverse LM score", {"seed": 12}),
    ],
)
def test_figures_that_were_measured_otherwise_have_other_signatures(name: str, change: dict[str, Any]) -> None:
    def signature(**keys: Any) -> str:
        ruler = Ruler(**{"references": REFERENCES, "judge": Models().judge(), "seed": 11} | keys)
        return by_name(text_figures(SAMPLES, ruler, DRAWN) + judge_figures(SAMPLES, ruler, DRAWN))[name].signature

    assert signature() == signature()
    assert signature(**change) != signature()


# --- likelihood ---


def test_likelihood_by_hand() -> None:
    held_out = HeldOut(np.array([3.0, 5.0, 4.0]), np.array([3, 5, 1]))
    texts = ["a b", "c  d\te f", ""]  # a word is what stands between white space
    found = by_name(likelihood_figures(held_out, texts, AGAINST, with_end=True))
    assert found["held-out NLL"].estimate == held_out.per_token()
    assert found["held-out perplexity"].estimate.value == pytest.approx(math.exp(12 / 9))
    assert found["held-out perplexity by word"].estimate.value == pytest.approx(math.exp(12 / (3 + 5 + 1)))
    without = by_name(likelihood_figures(held_out, texts, AGAINST, with_end=False))
    assert without["held-out perplexity"] == found["held-out perplexity"]
    assert without["held-out perplexity by word"].estimate.value == pytest.approx(math.exp(12 / (2 + 4 + 0)))
    assert "end of text" in found["held-out perplexity by word"].signature
    assert "end of text" not in without["held-out perplexity by word"].signature


def test_figures_by_character_say_so() -> None:
    held_out = HeldOut(np.array([3.0, 5.0]), np.array([3, 5]))
    found = by_name(likelihood_figures(held_out, ["明月", "照 高山"], AGAINST, True, "character"))
    perplexity = found["held-out perplexity by character"]
    assert perplexity.estimate.value == pytest.approx(math.exp(8 / (3 + 4)))
    assert (perplexity.unit, perplexity.signature) == ("per character", f"{AGAINST}, characters and end of text")
    samples = as_set(["a ab", "ba"])
    by_word, by_character = (
        by_name(text_figures(samples, Ruler(as_set(["ab a", "b"]), unit=unit), DRAWN)) for unit in ("word", "character")
    )
    assert by_character["distinct-1"].estimate.value == pytest.approx(2 / 5)
    assert by_character["distinct-2"].estimate.value == pytest.approx(3 / 3)  # "aa", "ab"; "ba"
    apart = [name for name, figure in by_word.items() if by_character[name].signature != figure.signature]
    assert all("words" in by_word[name].signature for name in apart)
    assert all("characters" in by_character[name].signature for name in apart)
    assert {f"{name}-{n}" for name in ("BLEU", "Self-BLEU") for n in (2, 3, 4, 5)} < set(apart)
    assert {"distinct-1", "distinct-2", "repeated 2-grams within a text"} < set(apart)


def test_empty_samples_count_as_texts() -> None:
    references = as_set(["the cat sleeps", "a dog", "the bird sees a cat"])
    whole = as_set(["the cat", "a dog sleeps"])
    eos = TOKENIZER.vocabulary.eos_id
    mask = np.array([[True, False, False]] * 2)
    empty = Written(["", ""], np.full((2, 3), eos, np.int32), mask, np.zeros(2)).as_set()
    tokens = np.concatenate([whole.targets.tokens, empty.targets.tokens])
    both = TextSet([*whole.texts, *empty.texts], Ragged(tokens, np.array([0, 3, 7, 8, 9])))
    alone, found = (by_name(text_figures(texts, Ruler(references), DRAWN)) for texts in (whole, both))
    for name, of_empty in (("length", 1), ("BLEU-2", 0), ("BLEU-4", 0)):
        assert found[name].estimate.value == pytest.approx((alone[name].estimate.value + of_empty) / 2)
    assert found["different texts"].estimate.value == pytest.approx(3 / 4)
    assert found["distinct-1"].estimate.value == alone["distinct-1"].estimate.value


def test_the_error_of_a_perplexity_is_that_of_the_nats_times_the_perplexity() -> None:
    rng = np.random.default_rng(0)
    words = rng.integers(1, 9, 200)
    held_out = HeldOut(2.0 * words + rng.normal(size=200), words + 3)
    texts = ["w " * count for count in words]
    found = by_name(likelihood_figures(held_out, texts, AGAINST, with_end=False))
    drawn = rng.integers(0, 200, (4000, 200))
    for name, counts in (("held-out perplexity", held_out.tokens), ("held-out perplexity by word", words)):
        bootstrap = np.exp(held_out.nats[drawn].sum(axis=1) / counts[drawn].sum(axis=1)).std()
        assert found[name].estimate.error == pytest.approx(bootstrap, rel=0.06)


def test_an_impossible_text_makes_every_likelihood_infinite_and_none_nan() -> None:
    found = likelihood_figures(HeldOut(np.array([3.0, math.inf]), np.array([3, 2])), ["a b", "c"], AGAINST, True)
    assert [figure.estimate for figure in found] == [Estimate(math.inf)] * 3


def test_without_any_word_there_is_no_likelihood_by_word() -> None:
    found = by_name(likelihood_figures(HeldOut(np.array([1.0, 2.0]), np.array([1, 1])), ["", ""], AGAINST, False))
    assert found["held-out perplexity by word"].estimate == Estimate(None)
    assert found["held-out perplexity"].estimate.value == pytest.approx(math.exp(1.5))


# --- texts alone ---


def test_figures_of_a_few_texts_by_hand() -> None:
    samples = as_set(["the cat sleeps", "the cat sleeps", "a dog a dog"])
    copied = np.array([False, True, False])
    training = TrainingText(lambda texts: copied, as_set(["a cat sleeps"]).targets)
    found = by_name(text_figures(samples, Ruler(as_set(["the cat"]), training), DRAWN))
    assert found["length"].estimate.value == pytest.approx((4 + 4 + 5) / 3)  # the end of text is a token
    assert found["distinct-1"].estimate.value == pytest.approx(5 / 10)
    assert found["distinct-2"].estimate.value == pytest.approx(4 / 7)
    assert found["different texts"].estimate.value == pytest.approx(2 / 3)
    assert found["repeated 2-grams within a text"].estimate.value == pytest.approx((0 + 0 + 1 / 3) / 3)
    assert found["copied from the training text"].estimate == share_of(copied)
    # "cat sleeps" and the end of text, twice, and "a".
    assert found["longest run from the training text"].estimate.value == pytest.approx((3 + 3 + 1) / 3)
    bleu_2 = math.sqrt(2 / 3 * 1 / 2)
    assert found["BLEU-2"].estimate == mean_of([bleu_2, bleu_2, 0.0])
    assert found["Self-BLEU-2"].estimate == Estimate(pytest.approx(2 / 3), None)


def test_bleu_figures_are_the_means_of_sentence_bleu_over_the_texts() -> None:
    found = by_name(text_figures(SAMPLES, Ruler(REFERENCES), DRAWN))
    for n, scores in bleu(words_of(SAMPLES.texts), words_of(REFERENCES.texts)).items():
        assert found[f"BLEU-{n}"].estimate == mean_of(scores)
        assert 0 < scores.mean() < 1
    for n, scores in self_bleu(words_of(SAMPLES.texts)).items():
        assert found[f"Self-BLEU-{n}"].estimate.value == pytest.approx(scores.mean())


def test_the_error_of_self_bleu_is_the_jackknife_over_tenths_of_the_texts() -> None:
    words = words_of(SAMPLES.texts)
    (found,) = self_bleu_figures(words, DRAWN, (3,))
    without = [self_bleu([text for i, text in enumerate(words) if i % 10 != g], (3,))[3].mean() for g in range(10)]
    assert found.name == "Self-BLEU-3"
    assert found.estimate.error == pytest.approx(math.sqrt(9 / 10 * np.square(without - np.mean(without)).sum()))
    assert found.estimate.error != mean_of(self_bleu(words, (3,))[3]).error
    (few,) = self_bleu_figures(words[:19], DRAWN, (3,))
    assert few.estimate.value is not None
    assert few.estimate.error is None


# --- the source ---


def test_a_text_costs_what_its_grammar_says() -> None:
    texts = ["the cat sleeps", "a dog sees the bird", "there is a cat"]
    found = source_log_probs(as_set(texts), GRAMMAR, TOKENIZER)
    by_hand = [
        4 / 5 * (2 / 3 * 3 / 6) * 2 / 3,
        4 / 5 * (1 / 3 * 2 / 6) * (1 / 3 * 2 / 3 * 1 / 6),
        1 / 5 * 1 / 3 * 3 / 6,
    ]
    np.testing.assert_allclose(found, np.log(by_hand), rtol=1e-12)
    assert found.dtype == np.float64


BOS, EOS, PAD = TOKENIZER.vocabulary.bos_id, TOKENIZER.vocabulary.eos_id, TOKENIZER.vocabulary.pad_id
THE_CAT_SLEEPS = TOKENIZER.encode("the cat sleeps")


@pytest.mark.parametrize(
    "tokens",
    [
        THE_CAT_SLEEPS,  # cut off before its end
        [*THE_CAT_SLEEPS[:2], BOS, THE_CAT_SLEEPS[2], EOS],  # says the same, with a token that says nothing
        [*THE_CAT_SLEEPS, PAD, EOS],
        [EOS],
        [*TOKENIZER.encode("cat the sleeps"), EOS],
        [*TOKENIZER.encode("the zebra sleeps"), EOS],
        [*TOKENIZER.encode("the <unk> sleeps"), EOS],
    ],
    ids=["unfinished", "a special token within", "padding within", "empty", "disorder", "zebra", "unknown"],
)
def test_what_the_grammar_cannot_have_written_in_just_these_tokens_is_impossible(tokens: list[int]) -> None:
    found = source_log_probs(of_tokens([tokens, [*THE_CAT_SLEEPS, EOS]]), GRAMMAR, TOKENIZER)
    assert found[0] == -math.inf
    assert found[1] == pytest.approx(GRAMMAR.log_prob("the cat sleeps"))


def test_a_grammatical_text_in_other_subwords_than_the_tokenizers_own_is_impossible() -> None:
    corpus = Corpus(Split(sentences(0, 200)), Split(), None)
    tokenizer = fit_tokenizer(BpeTokenizer(vocab_size=300), corpus)
    assert isinstance(tokenizer, Tokenizer)
    eos = tokenizer.vocabulary.eos_id
    regular = tokenizer.encode("the cat sleeps")
    letters = [i for letter in "the cat sleeps" for i in tokenizer.encode(letter)]
    assert len(letters) > len(regular)
    samples = of_tokens([[*regular, eos], [*letters, eos]], tokenizer)
    assert samples.texts == ["the cat sleeps"] * 2
    found = source_log_probs(samples, GRAMMAR, tokenizer)
    assert found.tolist() == [pytest.approx(GRAMMAR.log_prob("the cat sleeps")), -math.inf]


def test_texts_of_the_source_itself_have_no_divergence_from_it() -> None:
    written, real = as_set(sentences(2, 50)), as_set(sentences(3, 60))
    of_written, of_real = (source_log_probs(texts, GRAMMAR, TOKENIZER) for texts in (written, real))
    found = by_name(
        source_figures(written, GRAMMAR, LogProbs(of_real, of_real), LogProbs(of_written, of_written), DRAWN, AGAINST)
    )
    for name in ("forward KL", "reverse KL", "forward + reverse KL", "reverse KL of the grammatical"):
        assert found[name].estimate == Estimate(0.0, 0.0)
    assert found["Jensen-Shannon divergence"].estimate.value == pytest.approx(0.0, abs=1e-12)
    assert found["grammatical"].estimate == share_of(np.ones(50, bool))
    assert found["source NLL of the grammatical"].estimate == mean_of(-of_written)
    assert found["grammar rules used"].estimate == rule_coverage(written.texts, GRAMMAR)


def test_source_figures_are_the_divergences_under_their_own_names() -> None:
    rng = np.random.default_rng(0)
    of_samples, of_references = (source_log_probs(texts, GRAMMAR, TOKENIZER) for texts in (SAMPLES, REFERENCES))
    real = LogProbs(of_references, of_references - rng.gamma(1.0, 0.5, len(REFERENCES)))
    written = LogProbs(of_samples, rng.normal(-4.0, 1.0, len(SAMPLES)))
    found = by_name(source_figures(SAMPLES, GRAMMAR, real, written, DRAWN, AGAINST))
    expected = divergences(real, written)
    assert {name: figure.estimate for name, figure in found.items()} == {
        "forward KL": expected.forward_kl,
        "reverse KL": Estimate(math.inf),
        "forward + reverse KL": Estimate(math.inf),
        "Jensen-Shannon divergence": expected.jensen_shannon,
        "reverse KL of the grammatical": expected.reverse_kl_of_possible,
        "grammatical": share_of(np.arange(40) < 38),
        "source NLL of the grammatical": expected.source_nll_of_possible,
        "grammar rules used": rule_coverage(SAMPLES.texts, GRAMMAR),
    }


def test_salad_leaves_the_figures_of_the_grammatical_undefined_and_the_others_infinite() -> None:
    salad = as_set(["cat the", "sleeps", ""])
    of_salad, of_real = (source_log_probs(texts, GRAMMAR, TOKENIZER) for texts in (salad, REFERENCES))
    figures = source_figures(
        salad, GRAMMAR, LogProbs(of_real, of_real - 1), LogProbs(of_salad, np.full(3, -2.0)), DRAWN, AGAINST
    )
    assert_no_nan(figures)
    found = by_name(figures)
    assert found["grammatical"].estimate == share_of(np.zeros(3, bool))
    assert found["reverse KL"].estimate == Estimate(math.inf)
    assert found["source NLL of the grammatical"].estimate == Estimate(None)
    assert found["reverse KL of the grammatical"].estimate == Estimate(None)
    assert found["grammar rules used"].estimate.value == 0.0


def test_the_oracle_scores_in_nats_a_token_and_has_no_grammar() -> None:
    oracle = Oracle(init_oracle(0, vocab_size=30, hidden=4))
    tokenizer = IdTokenizer(Vocabulary(30, 0, 0, None))
    written, real = (of_tokens(oracle.sample(seed, 8, 5).tolist(), tokenizer) for seed in (1, 2))
    of_written, of_real = (source_log_probs(texts, oracle, tokenizer) for texts in (written, real))
    np.testing.assert_allclose(of_written, oracle.log_prob(oracle.sample(1, 8, 5)), rtol=1e-6)
    assert of_written.shape == (8,)
    assert of_written.dtype == np.float64
    figures = source_figures(
        written, oracle, LogProbs(of_real, of_real - 1), LogProbs(of_written, of_written + 2), DRAWN, AGAINST
    )
    assert [figure.name for figure in figures] == [
        "NLL_oracle",
        "forward KL",
        "reverse KL",
        "forward + reverse KL",
        "Jensen-Shannon divergence",
    ]
    assert figures[0].estimate.value == pytest.approx(-of_written.mean() / 5)
    assert (figures[0].unit, figures[0].signature) == ("nats/token", DRAWN)
    assert figures[1].estimate.value == pytest.approx(1.0)
    assert figures[2].estimate.value == pytest.approx(2.0)


# --- the judge ---


def test_judge_figures_are_those_of_its_models_on_as_many_samples_as_references() -> None:
    models = Models()
    found = by_name(judge_figures(SAMPLES, Ruler(REFERENCES, None, models.judge(), seed=11), DRAWN))
    a, b = (models.features(texts) for texts in (SAMPLES.part(slice(0, 30)), REFERENCES))
    assert found["Fréchet distance"].estimate == frechet_distance(a, b)
    assert found["MAUVE"].estimate == mauve(a, b, clusters=3, seed=11)
    assert found["classifier accuracy"].estimate == Estimate(0.625, 0.03)
    tokens = np.diff(SAMPLES.targets.offsets).sum()
    assert found["LM score"].estimate.value == pytest.approx((2 * tokens + 20) / tokens)
    tokens = np.diff(REFERENCES.targets.offsets).sum()
    assert found["reverse LM score"].estimate.value == pytest.approx((3 * tokens + 15) / tokens)

    assert {tuple(texts.texts) for texts in models.embedded} == {
        tuple(SAMPLES.texts[:30]),
        tuple(REFERENCES.texts),
    }
    assert models.told == [(SAMPLES.targets, REFERENCES.targets, 11, False)]
    assert models.fitted == [(SAMPLES.targets, 11)], "the reverse LM learns from all samples"
    assert models.scored == [(2.0, SAMPLES.targets), (3.0, REFERENCES.targets)]
    judge_figures(SAMPLES, Ruler(REFERENCES, None, models.judge(), seed=11, paired=True), DRAWN)
    assert models.told[1:] == [(SAMPLES.targets, REFERENCES.targets, 11, True)]


def test_of_more_references_than_samples_the_first_are_embedded_and_all_are_read() -> None:
    models = Models()
    references = as_set(sentences(1, 60))
    found = by_name(judge_figures(SAMPLES, Ruler(references, None, models.judge()), DRAWN))
    assert {tuple(texts.texts) for texts in models.embedded} == {
        tuple(SAMPLES.texts),
        tuple(references.texts[:40]),
    }
    assert "40 of them against 40 references" in found["MAUVE"].signature
    assert "60 references" in found["reverse LM score"].signature
    assert models.scored[1] == (3.0, references.targets)


@pytest.mark.parametrize(("samples", "references"), [(19, 30), (40, 19), (2, 1)])
def test_fewer_than_twenty_texts_leave_the_distances_undefined(samples: int, references: int) -> None:
    models = Models()
    few = SAMPLES.part(slice(0, samples))
    figures = judge_figures(few, Ruler(REFERENCES.part(slice(0, references)), None, models.judge()), DRAWN)
    assert_no_nan(figures)
    found = by_name(figures)
    assert list(found) == ["LM score", "Fréchet distance", "MAUVE", "classifier accuracy", "reverse LM score"]
    for name in list(found)[1:]:
        assert found[name].estimate == Estimate(None)
        assert found[name].signature
    assert found["LM score"].estimate.value is not None
    assert models.embedded == models.fitted == models.told == []


def test_twenty_texts_are_enough() -> None:
    found = by_name(
        judge_figures(SAMPLES.part(slice(0, 20)), Ruler(REFERENCES.part(slice(0, 20)), None, Models().judge()), DRAWN)
    )
    assert all(figure.estimate.value is not None for figure in found.values())
    assert "2 clusters" in found["MAUVE"].signature


def test_single_figures_are_those_of_the_whole() -> None:
    ruler = Ruler(REFERENCES, None, Models().judge(), seed=11)
    found = by_name(judge_figures(SAMPLES, ruler, DRAWN))
    assert frechet(SAMPLES, ruler, DRAWN) == found["Fréchet distance"]
    assert ruler.judge is not None
    assert lm_score(SAMPLES, ruler.judge, DRAWN) == found["LM score"]


# --- degenerate sets, with a real judge ---


@pytest.fixture(scope="module")
def real_judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    config = JudgeConfig(layers=1, width=8, steps=5, batch_size=8)
    training = as_set(sentences(4, 40)).targets
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        judge = judge_from(
            training, "40 training texts", TOKENIZER.vocabulary, LENGTH, config, "language_model", lambda line: None
        )
    return replace(judge, two_sample=two_sample_test(TOKENIZER.vocabulary, LENGTH, steps=5))


SAME, SALAD = ["the cat sleeps"] * 24, ["cat cat"] * 24


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("samples", "references"),
    [(SAME, SAME), (SAME, sentences(1, 24)), (sentences(1, 24), SAME), (SALAD, sentences(1, 24)), (SALAD, SAME)],
    ids=["all the same", "same samples", "same references", "same salad", "same salad, same references"],
)
def test_texts_that_are_all_the_same_have_defined_figures(
    samples: list[str], references: list[str], real_judge: Judge
) -> None:
    figures = every_figure(as_set(samples), as_set(references), real_judge)
    assert_no_nan(figures)
    found = by_name(figures)
    of_the_grammatical = {"reverse KL of the grammatical", "source NLL of the grammatical"}
    undefined = {name for name, figure in found.items() if figure.estimate.value is None}
    assert undefined == (of_the_grammatical if samples is SALAD else set())
    if samples == references:
        assert found["Fréchet distance"].estimate.value == pytest.approx(0.0, abs=1e-9)
        assert found["MAUVE"].estimate.value == pytest.approx(1.0)
        assert found["classifier accuracy"].estimate.value == 0.5
        assert found["BLEU-3"].estimate == Estimate(pytest.approx(1.0), pytest.approx(0.0, abs=1e-9))
        assert found["Self-BLEU-3"].estimate == Estimate(pytest.approx(1.0), pytest.approx(0.0, abs=1e-9))
        assert found["different texts"].estimate.value == pytest.approx(1 / 24)


@pytest.mark.parametrize("count", [2, 24])
def test_empty_texts_have_figures_too(count: int, real_judge: Judge) -> None:
    one_empty = as_set(["", *sentences(0, count - 1)])
    assert one_empty.targets[0].tolist() == [EOS]
    for samples, references in ((one_empty, REFERENCES), (as_set([""] * count), REFERENCES)):
        figures = every_figure(samples, references, real_judge)
        assert_no_nan(figures)
        assert by_name(figures)["LM score"].estimate.value is not None
    found = by_name(text_figures(one_empty, Ruler(REFERENCES), DRAWN))
    lengths = [1, *(len(text.split()) + 1 for text in one_empty.texts[1:])]
    assert found["length"].estimate == mean_of(lengths)
    assert found["BLEU-2"].estimate == mean_of(
        [0.0, *bleu(words_of(one_empty.texts[1:]), words_of(REFERENCES.texts), (2,))[2]]
    )
    all_empty = by_name(text_figures(as_set([""] * count), Ruler(REFERENCES), DRAWN))
    assert all_empty["distinct-1"].estimate == Estimate(None)
    assert all_empty["Self-BLEU-2"].estimate.value == 0.0
    assert all_empty["length"].estimate == Estimate(1.0, 0.0)


def test_two_texts_are_enough_for_all_that_needs_no_distance(real_judge: Judge) -> None:
    figures = every_figure(as_set(sentences(0, 2)), as_set(sentences(1, 2)), real_judge)
    assert_no_nan(figures)
    undefined = {figure.name for figure in figures if figure.estimate.value is None}
    assert undefined == {"Fréchet distance", "MAUVE", "classifier accuracy", "reverse LM score"}


def test_texts_of_a_split_are_measured_as_those_of_a_writer() -> None:
    texts = sentences(5, 25)
    split = encode_split(Split(texts), TOKENIZER, LENGTH)
    ours = text_figures(TextSet(texts, split.targets), Ruler(REFERENCES), DRAWN)
    assert ours == text_figures(as_set(texts), Ruler(REFERENCES), DRAWN)


def test_built_in_rewards_of_texts_alone_are_figures_and_no_others() -> None:
    texts = ["CCO", "CC(", "", "c1ccccc1"]
    ends = np.cumsum([0, *(len(text) + 1 for text in texts)])
    samples = TextSet(texts, Ragged(np.full(ends[-1], 5, np.int32), ends))
    rewards = [
        RewardConfig(function="pattern", options={"pattern": "^CC"}, weight=0.0),
        RewardConfig(function="length", options={"target": 4.0}, weight=2.0),
        RewardConfig(function="bleu"),  # needs references
        RewardConfig(function="no_such_module:reward"),  # code of the user's, which an evaluation never imports
    ]
    found = {figure.name: figure.estimate.value for figure in reward_figures(samples, rewards, "drawn so")}
    assert found == {"reward pattern": 0.5, "reward length": -np.mean([0, 0, 3, 5])}
