"""The judges' language model: it learns a source whose entropy is known, its scores are a distribution over texts, and
it stops by text that it does not learn from."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pytest
from helpers import assert_trees_close, assert_trees_differ, texts_of

from gptgan_jax.config import JudgeConfig
from gptgan_jax.data.batches import batch_at
from gptgan_jax.data.encoding import Ragged, TokenisedSplit
from gptgan_jax.scoring import language_model as room
from gptgan_jax.scoring.held_out_likelihood import HeldOut
from gptgan_jax.scoring.language_model import LanguageModel, language_model
from gptgan_jax.types import Batch, Params, Vocabulary

EOS = 2
VOCABULARY = Vocabulary(6)  # three words: 3, 4, 5
LENGTH = 5
CONFIG = JudgeConfig(layers=1, width=32, dropout=0.0, steps=200, batch_size=32, learning_rate=3e-3)
START, NEXT = np.full(3, 1 / 3), np.array([0.1, 0.85, 0.05])  # the next word is 0, 1 or 2 further round the circle
END = 0.2


def ragged(texts: Iterable[Sequence[int]]) -> Ragged:
    rows = [np.asarray(text, np.int32) for text in texts]
    return Ragged(np.concatenate(rows), np.concatenate([[0], np.cumsum([len(row) for row in rows])]))


def drawn(seed: int, count: int) -> list[list[int]]:
    """Texts of a Markov source, cut off at `LENGTH` tokens."""
    rng, texts = np.random.default_rng(seed), []
    for _ in range(count):
        text = [3 + int(rng.choice(3, p=START))]
        while text[-1] != EOS and len(text) < LENGTH:
            word = 3 + (text[-1] - 3 + int(rng.choice(3, p=NEXT))) % 3
            text.append(EOS if rng.random() < END else word)
        texts.append(text)
    return texts


def source_nats(texts: Sequence[Sequence[int]]) -> float:
    """Nats of all texts under the source."""
    total = 0.0
    for text in texts:
        total -= np.log(1 / 3)
        for before, after in pairwise(text):
            total -= np.log(END) if after == EOS else np.log((1 - END) * NEXT[(after - before) % 3])
    return total


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return language_model(VOCABULARY, LENGTH, CONFIG)


@pytest.fixture(scope="module")
def training() -> Ragged:
    return ragged(drawn(0, 600))


@pytest.fixture(scope="module")
def learned(model: LanguageModel, training: Ragged) -> Params:
    return model.fit(training, 0)


# --- learning ---


def test_it_comes_near_the_entropy_of_a_small_source_and_far_below_that_of_its_words(
    model: LanguageModel, learned: Params
) -> None:
    texts = drawn(1, 400)
    tokens = np.concatenate(texts)
    of_model = model.score(learned, ragged(texts)).per_token()
    of_source = source_nats(texts) / len(tokens)
    share = np.bincount(tokens)[2:] / len(tokens)
    of_words = -(share * np.log(share)).sum()
    assert of_source < of_words - 0.3, "the source should be worth learning"
    assert of_model.value == pytest.approx(of_source, abs=0.06)
    assert of_model.value > of_source - 0.01
    assert of_model.error is not None
    assert 0 < of_model.error < 0.05


def test_fit_is_a_function_of_text_and_seed(model: LanguageModel, training: Ragged, learned: Params) -> None:
    assert_trees_close(model.fit(training, 0), learned, rtol=0, atol=0)
    assert_trees_differ(model.fit(training, 1), learned)
    assert_trees_differ(model.fit(ragged(drawn(2, 600)), 0), learned)


def test_its_description_names_its_size_and_its_steps(model: LanguageModel) -> None:
    assert model.description == "1-layer GPT of width 32, at most 200 steps"


@pytest.mark.parametrize("width", [2, 3, 48, 66, 100, 129])
def test_any_width_that_a_configuration_may_name_makes_a_model(width: int) -> None:
    config = JudgeConfig(layers=1, width=width, steps=1)
    assert f"width {width}" in language_model(VOCABULARY, LENGTH, config).description


# --- scores ---


def test_the_scores_of_all_texts_are_a_distribution(model: LanguageModel, learned: Params) -> None:
    held_out = model.score(learned, ragged(texts_of(VOCABULARY, LENGTH)))
    assert len(held_out.nats) == 1 + 5 + 25 + 125 + 625 * 6
    assert np.exp(-held_out.nats).sum() == pytest.approx(1.0, abs=1e-4)


def test_nats_and_tokens_stand_in_the_order_of_the_texts_and_count_the_end(
    model: LanguageModel, learned: Params
) -> None:
    texts = [[3, EOS], [3, 4, 5, 3, 4], [EOS], [3, 4, 5, EOS], [3, 5, 5, EOS]]
    held_out = model.score(learned, ragged(texts))
    np.testing.assert_array_equal(held_out.tokens, [2, 5, 1, 4, 4])
    backwards = model.score(learned, ragged(texts[::-1]))
    np.testing.assert_allclose(backwards.nats[::-1], held_out.nats, rtol=1e-6)
    assert held_out.nats[3] < held_out.nats[4], "3 4 5 goes round the circle, 3 5 5 does not"
    assert held_out.nats[2] > held_out.nats[0], "the source writes no empty text"


def test_a_text_scores_the_same_alone_and_in_company_that_fills_more_than_a_batch(
    model: LanguageModel, learned: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = drawn(3, 300)
    together = model.score(learned, ragged(texts)).nats
    assert len(together) == 300
    assert room.SCORE_AT_ONCE < 300, "one batch would not tell"
    for i in (0, 7, 255, 256, 299):
        np.testing.assert_allclose(model.score(learned, ragged(texts[i : i + 1])).nats, together[[i]], rtol=1e-5)
    monkeypatch.setattr(room, "SCORE_AT_ONCE", 70)
    np.testing.assert_allclose(model.score(learned, ragged(texts)).nats, together, rtol=1e-5)


# --- embeddings ---


def test_an_embedding_is_the_mean_state_of_a_text_whatever_stands_beside_it(
    model: LanguageModel, learned: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [[EOS], [3, EOS], [3, 4, 5, EOS], [5, 3, 4, 5, 3], *drawn(4, 260)]
    embedded = model.embed(learned, ragged(texts))
    assert embedded.shape == (264, 32)
    assert embedded.dtype == np.float32
    for i in (0, 1, 2, 3, 255, 256, 263):
        np.testing.assert_allclose(model.embed(learned, ragged([texts[i]]))[0], embedded[i], rtol=1e-4, atol=1e-5)
    assert np.abs(model.embed(learned, ragged([[3, 5, 4, EOS]]))[0] - embedded[2]).max() > 0.01, "order matters"
    longer = language_model(VOCABULARY, LENGTH + 3, CONFIG)  # rotary positions, so the parameters fit
    np.testing.assert_allclose(longer.embed(learned, ragged(texts[:9])), embedded[:9], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        longer.score(learned, ragged(texts[:9])).nats, model.score(learned, ragged(texts[:9])).nats, rtol=1e-4
    )


def test_an_embedding_is_the_mean_of_the_states_that_the_logits_are_read_from(
    model: LanguageModel, learned: Params
) -> None:
    """A state does not see what comes after it: those of a text and of its beginning are the same."""
    text = [3, 4, 4, EOS]
    means = [model.embed(learned, ragged([text[:length]]))[0].astype(np.float64) for length in range(1, 5)]
    states = [means[0], *((n + 1) * means[n] - n * means[n - 1] for n in range(1, 4))]
    table = np.asarray(learned["trunk"]["embedding"]["table"], np.float64)
    logits = np.stack(states) @ table.T
    nats = np.log(np.exp(logits).sum(axis=1)) - logits[range(4), text]
    assert model.score(learned, ragged([text])).nats[0] == pytest.approx(nats.sum(), rel=1e-4)


# --- stopping ---


class Watched:
    """What `fit` learns from and what it stops by, as it goes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.learned: list[TokenisedSplit] = []
        self.batches: list[Batch] = []
        self.kept: list[TokenisedSplit] = []

        def watched_batch(split: TokenisedSplit, *place: Any) -> Batch:
            self.learned.append(split)
            self.batches.append(batch_at(split, *place))
            return self.batches[-1]

        evaluation_batches = room.evaluation_batches

        def watched_evaluation(split: TokenisedSplit, size: int) -> Iterator[Batch]:
            self.kept.append(split)
            return evaluation_batches(split, size)

        monkeypatch.setattr(room, "batch_at", watched_batch)
        monkeypatch.setattr(room, "evaluation_batches", watched_evaluation)


def all_different(count: int) -> list[list[int]]:
    """Texts of the vocabulary that name themselves: their number in base 3."""
    return [[3 + i // 27 % 3, 3 + i // 9 % 3, 3 + i // 3 % 3, 3 + i % 3, EOS] for i in range(count)]


def numbers(split: TokenisedSplit) -> list[int]:
    return [int(sum(3**place * (word - 3) for place, word in enumerate(text[3::-1]))) for text in split.targets]


SHORT = JudgeConfig(layers=1, width=8, dropout=0.2, steps=15, batch_size=16, learning_rate=0.02)


@pytest.fixture(scope="module")
def short_model() -> LanguageModel:
    """One look at the text kept aside, at the end."""
    return language_model(VOCABULARY, LENGTH, SHORT)


@pytest.mark.cases(2)
@pytest.mark.parametrize(("count", "tenth"), [(80, 8), (64, 6), (15, 2), (4, 1), (2, 1)])
def test_a_tenth_is_kept_aside_and_never_learned_from(
    count: int, tenth: int, short_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    short_model.fit(ragged(all_different(count)), 0)
    (kept,) = watched.kept
    assert len(watched.batches) == 15
    assert len(kept) == tenth
    for split in watched.learned:
        assert sorted(numbers(split) + numbers(kept)) == list(range(count))
    assert all(np.shape(batch.target) == (16, LENGTH) for batch in watched.batches)


def test_what_is_kept_aside_has_no_part_in_the_steps(
    short_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = all_different(60)
    watched = Watched(monkeypatch)
    params = short_model.fit(ragged(texts), 0)
    kept = numbers(watched.kept[0])
    assert len(kept) == 6
    others = [[5, EOS] if i in kept else text for i, text in enumerate(texts)]
    assert_trees_close(short_model.fit(ragged(others), 0), params, rtol=0, atol=0)
    learned = next(i for i in range(60) if i not in kept)
    others = [[5, EOS] if i == learned else text for i, text in enumerate(texts)]
    assert_trees_differ(short_model.fit(ragged(others), 0), params)


def test_padding_is_not_learned_and_dropout_acts_on_what_is(short_model: LanguageModel) -> None:
    texts = ragged(drawn(0, 60))
    params = short_model.fit(texts, 0)
    padded_otherwise = language_model(replace(VOCABULARY, pad_id=4), LENGTH, SHORT)
    assert_trees_close(padded_otherwise.fit(texts, 0), params)
    assert_trees_differ(language_model(VOCABULARY, LENGTH, replace(SHORT, dropout=0.0)).fit(texts, 0), params)


def test_another_seed_keeps_another_tenth_aside_and_reads_in_another_order(
    short_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    for seed in (0, 1):
        short_model.fit(ragged(all_different(60)), seed)
    assert set(numbers(watched.kept[0])) != set(numbers(watched.kept[1]))
    assert not np.array_equal(watched.batches[0].target, watched.batches[15].target)
    assert not np.array_equal(watched.batches[0].target, watched.batches[1].target)


class Scripted:
    """A model whose scores are those of a list, whatever its parameters, which are kept."""

    def __init__(self) -> None:
        self.scores: tuple[float, ...] = ()
        self.seen: list[Params] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(room, "likelihood_of", lambda generator: self.score)
            self.model = language_model(VOCABULARY, LENGTH, SHORT)

    def score(self, params: Params, batches: Iterable[Batch]) -> HeldOut:
        self.seen.append(jax.tree.map(np.array, params))
        return HeldOut(np.array([self.scores[len(self.seen) - 1]]), np.array([1]))


@pytest.fixture(scope="module")
def scripted() -> Scripted:
    return Scripted()


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ((3.0, 2.0, 2.5, 2.1, 2.4), 1),  # three checks without progress
        ((3.0, 3.1, 3.2, 2.0, 2.0, 2.0, 2.0), 3),  # as good is no progress; two checks behind are forgiven
        ((9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0), 7),  # the last, after all steps
        ((9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 9.0), 6),
        ((1.0, np.inf, np.inf, np.inf), 0),
        ((1.0, np.nan, np.nan, np.nan), 0),  # it diverged
    ],
)
def test_it_gives_the_parameters_of_the_best_check_and_stops_after_three_worse(
    scores: tuple[float, ...], best: int, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.scores, scripted.seen = scores, []
    watched = Watched(monkeypatch)
    monkeypatch.setattr(room, "CHECK_EVERY", 2)
    params = scripted.model.fit(ragged(all_different(30)), 0)
    assert len(scripted.seen) == len(scores)
    assert len(watched.batches) == min(2 * len(scores), 15), "steps"
    assert_trees_close(params, scripted.seen[best], rtol=0, atol=0)
    assert_trees_differ(scripted.seen[0], scripted.seen[-1])


def test_a_model_that_diverges_from_the_start_gives_parameters_that_can_be_used(
    scripted: Scripted, short_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.scores, scripted.seen = (np.nan, np.nan, np.nan), []
    monkeypatch.setattr(room, "CHECK_EVERY", 2)
    params = scripted.model.fit(ragged(all_different(30)), 0)
    assert short_model.score(params, ragged([[3, EOS]])).per_token().value == pytest.approx(np.log(6), abs=0.1)


def test_of_a_training_that_overshoots_the_best_is_given_and_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    likelihood_of = room.likelihood_of

    def watched(generator: Any) -> Any:
        evaluate = likelihood_of(generator)

        def score(params: Params, batches: Iterable[Batch]) -> HeldOut:
            held_out = evaluate(params, batches)
            seen.append(float(held_out.nats.sum() / held_out.tokens.sum()))
            return held_out

        return score

    monkeypatch.setattr(room, "likelihood_of", watched)
    monkeypatch.setattr(room, "CHECK_EVERY", 5)
    config = JudgeConfig(layers=1, width=32, dropout=0.0, steps=60, batch_size=16, learning_rate=3.0)
    texts = drawn(0, 40)
    kept = Watched(monkeypatch)
    wild = language_model(VOCABULARY, LENGTH, config)
    params = wild.fit(ragged(texts), 0)
    checks = list(seen)
    assert checks[-1] > min(checks) + 1, "this learning rate should overshoot"
    assert wild.score(params, kept.kept[0].targets).per_token().value == pytest.approx(min(checks), rel=1e-6)
