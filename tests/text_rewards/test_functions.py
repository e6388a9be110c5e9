"""The built-in reward functions, by hand and against NLTK and RDKit."""

import builtins
import importlib.util
from typing import Any

import numpy as np
import pytest
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from gptgan_jax.errors import UserError
from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.text_rewards.functions import BUILT_IN, bleu, exact_answer, grammatical, length, pattern
from gptgan_jax.text_rewards.molecules import drug_likeness, valid_molecule

RDKIT = pytest.mark.skipif(importlib.util.find_spec("rdkit") is None, reason="needs the extra molecules")


def test_an_answer_is_right_by_its_final_answer() -> None:
    assert exact_answer(["7 + 5 #### 12.0", "it is 12", "#### 13"], ["#### 12"] * 3) == [1.0, 0.0, 0.0]


def test_the_length_is_paid_by_its_distance_from_the_target() -> None:
    texts, tokens = ["one two", "", "a"], [[5, 6, 2], [2], [7, 2]]
    assert length(texts, tokens, target=2) == [-1, -1, 0]
    assert length(texts, tokens, 1, "words") == [-1, -1, 0]
    assert length(texts, tokens, 1.5, "characters") == [-5.5, -1.5, -0.5]
    with pytest.raises(UserError, match="unit 'lines' should be one of tokens, words, characters"):
        length(texts, tokens, 1, "lines")  # type: ignore[arg-type]


def test_a_pattern_is_searched_for_or_matches_the_whole_text() -> None:
    assert pattern(["a 12", "b"], r"\d+") == [1.0, 0.0]
    assert pattern(["12", "a 12"], r"\d+", whole=True) == [1.0, 0.0]
    with pytest.raises(UserError, match="is no regular expression: unterminated"):
        pattern(["a"], "[")


def test_bleu_is_nltks_against_all_real_texts_of_the_step_or_the_one() -> None:
    texts = ["the cat sat on a mat", "dogs sleep here", "mat", ""]
    real = ["the cat sat on the mat", "dogs sleep", "birds sing here now", "the cat sat on the mat"]
    smooth = SmoothingFunction().method1
    words = [text.split() for text in real]
    for n in (1, 2, 3):
        options: dict[str, Any] = {"weights": [1 / n] * n, "smoothing_function": smooth}
        expected = [sentence_bleu(words, text.split(), **options) for text in texts]
        np.testing.assert_allclose(bleu(texts, real, n), expected, rtol=1e-6)
        alone = [sentence_bleu([one], text.split(), **options) for one, text in zip(words, texts, strict=True)]
        np.testing.assert_allclose(bleu(texts, real, n, alone=True), alone, rtol=1e-6)


def test_bleu_of_text_without_spaces_is_of_characters() -> None:
    texts, real = ["床前明月光", "疑是地上霜"], ["床前看月光", "疑是地上霜"]
    spaced = [[" ".join(text) for text in part] for part in (texts, real)]
    assert bleu(texts, real) == bleu(texts, real, unit="character") == bleu(*spaced, unit="word")
    assert 0 < bleu(texts, real)[0] < 1
    assert bleu(texts, real, unit="word")[0] == 0
    with pytest.raises(UserError, match="unit 'token' should be one of auto, word, character"):
        bleu(texts, real, unit="token")  # type: ignore[arg-type]


def test_what_the_grammar_draws_is_grammatical_and_what_is_shuffled_is_not() -> None:
    drawn = english_scenes().sample(np.random.default_rng(0), 5)
    assert grammatical(drawn) == [1.0] * 5
    assert grammatical([" ".join(sorted(text.split())) for text in drawn] + ["", "zzz"]) == [0.0] * 7


@RDKIT
def test_molecules_are_those_that_rdkit_sanitises() -> None:
    texts = ["CCO", "c1ccccc1", "C(C)(C)(C)(C)C", "C1CC", "", " ", "CCO ethanol", "C C O", "CCO\n"]
    assert valid_molecule(texts) == [1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert valid_molecule(["C C O", "CCO ethanol"], joined=True) == [1, 0]


@RDKIT
def test_drug_likeness_is_the_published_one_of_aspirin() -> None:
    found = drug_likeness(["CC(=O)OC1=CC=CC=C1C(=O)O", "C1CC"], invalid=-1.0)
    assert found == pytest.approx([0.550, -1.0], abs=5e-4)


@pytest.mark.parametrize("name", ["valid_molecule", "drug_likeness"])
def test_without_rdkit_the_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(module: str, *rest: Any) -> Any:
        if module.startswith("rdkit"):
            raise ImportError(module)
        return real(module, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install 'gptgan_jax\[molecules\]'"):
        BUILT_IN[name](["CCO"])
