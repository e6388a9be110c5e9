"""The text that a run is judged by lies in its folder, and a run goes on with no other text than it began with."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_experiment, write_corpus

from gptgan_jax.errors import UserError
from gptgan_jax.runs.held_out import HELD_OUT_FILE, check_same_text, held_out_of, load_held_out, save_held_out


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    experiment, _ = tiny_experiment(tmp_path)
    text = held_out_of(experiment)
    save_held_out(tmp_path / "run", text)
    again = load_held_out(tmp_path / "run", experiment.generator.vocabulary)
    np.testing.assert_array_equal(again.test.targets.tokens, experiment.test.targets.tokens)
    np.testing.assert_array_equal(again.test.targets.offsets, experiment.test.targets.offsets)
    np.testing.assert_array_equal(again.training_hashes, text.training_hashes)
    assert (again.split, again.notes, again.fingerprint) == (text.split, text.notes, text.fingerprint)
    assert (again.test.max_length, again.test.max_prompt_length) == (6, 3)
    assert again.test.prompts is None
    assert again.source is None


@pytest.mark.parametrize("kind", ["grammar", "oracle"])
def test_a_source_with_known_probabilities_comes_back_with_the_same(kind: str, tmp_path: Path) -> None:
    sizes = {f"data.{split}_size": 5 for split in ("train", "valid", "test")}
    oracle = {"data.vocab_size": 30, "data.hidden": 4} if kind == "oracle" else {}
    none = dict.fromkeys(("data.train", "data.valid_fraction", "data.test_fraction"))
    longest = {"data.max_length": 25, "generator.max_positions": 32}
    experiment, _ = tiny_experiment(tmp_path, {"data.kind": kind} | sizes | oracle | none | longest)
    text = held_out_of(experiment)
    save_held_out(tmp_path / "run", text)
    again = load_held_out(tmp_path / "run", experiment.generator.vocabulary)
    if kind == "grammar":
        sentences = experiment.corpus.test.texts
        assert [again.source.log_prob(s) for s in sentences] == [text.source.log_prob(s) for s in sentences]
    else:
        tokens = experiment.corpus.test.tokens
        np.testing.assert_array_equal(again.source.log_prob(tokens), text.source.log_prob(tokens))


def test_copied_tells_training_texts_from_all_others(tmp_path: Path) -> None:
    experiment, _ = tiny_experiment(tmp_path)
    train = list(experiment.corpus.train.texts)
    copied = held_out_of(experiment).copied([*train, *experiment.corpus.test.texts, "two", train[0] + " x"])
    assert copied.tolist() == [True] * len(train) + [False] * (len(experiment.corpus.test) + 2)


def test_other_training_text_is_refused_on_resume(tmp_path: Path) -> None:
    experiment, _ = tiny_experiment(tmp_path)
    save_held_out(tmp_path / "run", held_out_of(experiment))
    check_same_text(tmp_path / "run", experiment)
    write_corpus(tmp_path / "b" / "corpus.txt", sentences=50)
    other, _ = tiny_experiment(tmp_path / "b", {"data.train": str(tmp_path / "b" / "corpus.txt")})
    with pytest.raises(UserError, match=r"the text behind data\.train or data\.valid has changed"):
        check_same_text(tmp_path / "run", other)


def test_a_missing_or_damaged_file_is_one_line(tmp_path: Path) -> None:
    experiment, _ = tiny_experiment(tmp_path)
    vocabulary = experiment.generator.vocabulary
    with pytest.raises(UserError, match=r"held_out\.npz is missing"):
        load_held_out(tmp_path, vocabulary)
    (tmp_path / HELD_OUT_FILE).write_bytes(b"PK no zip")
    with pytest.raises(UserError, match=r"^[^\n]*held_out\.npz is damaged[^\n]*$"):
        load_held_out(tmp_path, vocabulary)


def test_other_right_answers_or_reward_columns_are_refused_on_resume(tmp_path: Path) -> None:
    experiment, _ = tiny_experiment(tmp_path)
    train = dataclasses.replace(experiment.train, columns={"n": list(range(len(experiment.train)))})
    first = dataclasses.replace(experiment, train=train)
    save_held_out(tmp_path / "run", held_out_of(first))
    check_same_text(tmp_path / "run", first)
    for changed in (
        {"columns": {"n": [0] * len(train)}},
        {"answers": ("a",) * len(train)},
        {"asked": ("a",) * len(train)},
    ):
        other = dataclasses.replace(first, train=dataclasses.replace(train, **changed))
        with pytest.raises(UserError, match="has changed"):
            check_same_text(tmp_path / "run", other)
