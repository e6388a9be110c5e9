"""Labels as they come from files and from the grammar: their ids, the texts without, and labels as prompts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gptgan_jax.data.config import GrammarData, HfData
from gptgan_jax.data.corpora import load_corpus
from gptgan_jax.errors import UserError
from gptgan_jax.sources.grammar_labels import label_of

ROWS = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(20)]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def data(folder: Path, **keys: Any) -> HfData:
    held = [{"text": "held out", "label": "b"}]
    paths = {"train": write(folder / "train.jsonl", ROWS), "valid": write(folder / "valid.jsonl", held)}
    return HfData(**(paths | {"label_column": "label"} | keys))


def test_text_without_labels_is_training_text_alone(tmp_path: Path) -> None:
    more = write(tmp_path / "more.jsonl", [{"text": "new"}, {"text": "held out"}, {"text": "held out", "label": "z"}])
    corpus = load_corpus(data(tmp_path, unlabelled=more))
    assert len(corpus.train) == len(ROWS) + 3
    assert corpus.train.labels is not None
    assert corpus.train.labels.tolist() == [0, 1] * 10 + [-1] * 3
    assert corpus.classes == ("a", "b")
    assert "data.valid: 1 of its 1 document are also in data.unlabelled" in corpus.notes
    assert any(note.startswith("ALARM: data.valid shares 100 % of its documents") for note in corpus.notes)


def test_right_answers_stay_beside_text_without_labels(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "right": f"right {i}"} for i in range(20)]
    more = write(tmp_path / "more.jsonl", [{"text": "new"}])
    config = data(tmp_path, unlabelled=more, answer_column="right", train=write(tmp_path / "t.jsonl", rows))
    write(tmp_path / "valid.jsonl", rows[:2])
    assert load_corpus(config, train_answers=True).train.answers == [*(f"right {i}" for i in range(20)), "new"]


def test_nothing_is_held_out_of_the_text_without_labels(tmp_path: Path) -> None:
    more = write(tmp_path / "more.jsonl", [{"text": f"new {i}"} for i in range(200)])
    corpus = load_corpus(data(tmp_path, unlabelled=more, valid=None, valid_fraction=0.3, test_fraction=0.3))
    assert not any(text.startswith("new") for part in (corpus.valid, corpus.test) for text in part.texts)
    assert (corpus.valid.labels >= 0).all()


def test_labels_that_look_alike_are_named_and_stay_classes(tmp_path: Path) -> None:
    labels = ["a", "a", " a", "A", "e\u0301", "\u00e9", "a  b", "a b", "007", "7", "None", "none of these", ""]
    rows = write(tmp_path / "alike.jsonl", [{"text": f"t {i}", "label": one} for i, one in enumerate(labels)])
    corpus = load_corpus(data(tmp_path, train=rows, valid=rows))
    assert set(corpus.classes) == set(labels) - {""}
    rule = "differ only in spaces, letter case or Unicode form, and are not the same"
    assert (
        f"data.train: labels 'a' (2 rows), ' a' (1 row), 'A' (1 row) {rule}; so do 2 more sets of labels"
        in corpus.notes
    )
    groups = load_corpus(
        data(tmp_path, train=rows, label_column=None, group_column="label", valid_fraction=0.3, valid=None)
    )
    assert any(note.startswith("data.train: groups 'a' (2 rows), ' a' (1 row), 'A' (1") for note in groups.notes)
    for pair in (["e\u0301", "\u00e9"], ["a  b", "a b"]):
        write(tmp_path / "alike.jsonl", [{"text": "t", "label": one} for one in pair])
        shown = ", ".join(f"{one!r} (1 row)" for one in pair)
        assert f"data.train: labels {shown} {rule}" in load_corpus(data(tmp_path, train=rows, valid=rows)).notes
    assert not any("labels" in note for note in load_corpus(data(tmp_path)).notes)


def test_classes_that_training_text_lacks_can_be_named(tmp_path: Path) -> None:
    held = write(tmp_path / "other.jsonl", [{"text": "x", "label": "c"}])
    with pytest.raises(UserError, match="label 'c' is none of the training labels: a, b"):
        load_corpus(data(tmp_path, valid=held))
    corpus = load_corpus(data(tmp_path, valid=held, classes=("c", "b", "a")))
    assert corpus.classes == ("c", "b", "a")
    assert corpus.valid.labels.tolist() == [0]
    assert corpus.train.labels[:2].tolist() == [2, 1]
    with pytest.raises(UserError, match=r"label 'b' is none of the data\.classes: a, c"):
        load_corpus(data(tmp_path, classes=("a", "c")))
    with pytest.raises(UserError, match="twice"):
        load_corpus(data(tmp_path, classes=("a", "b", "a")))
    for name in ("-1", "-1.0", " "):
        with pytest.raises(UserError, match=rf"data\.classes: '{name}' in a row means no label; call that class"):
            load_corpus(data(tmp_path, classes=("a", "b", name)))


@pytest.mark.parametrize("others", [[1], [-2, 0, 2], ["+1"]])
def test_minus_one_that_seems_to_be_a_class_is_refused(others: list[Any], tmp_path: Path) -> None:
    rows = [{"text": f"t {i}", "label": label} for i, label in enumerate([*others, -1] * 30)]
    with pytest.raises(UserError, match=r"-1 in column label means no label, and seems to be a class beside .*; write"):
        load_corpus(data(tmp_path, train=write(tmp_path / "signs.jsonl", rows)))
    for row in rows:
        row["label"] = None if row["label"] == -1 else row["label"]
    write(tmp_path / "signs.jsonl", rows)
    assert load_corpus(data(tmp_path, train=str(tmp_path / "signs.jsonl"), valid=None, valid_fraction=0.3)).classes


def test_labels_become_prompts_and_text_without_one_answers_nothing(tmp_path: Path) -> None:
    more = write(tmp_path / "more.jsonl", [{"text": "new"}])
    corpus = load_corpus(data(tmp_path, unlabelled=more, label_prompts=True))
    assert list(corpus.train.prompts) == ["a", "b"] * 10 + [""]
    assert list(corpus.valid.prompts) == ["b"]
    assert load_corpus(data(tmp_path)).train.prompts is None


def test_the_grammar_labels_its_sentences_and_can_forget_some_labels() -> None:
    sizes = {"train_size": 60, "valid_size": 30, "test_size": 30}
    corpus = load_corpus(GrammarData(label="subject", labelled=20, label_prompts=True, **sizes))
    assert (corpus.train.labels[:20] >= 0).all()
    assert (corpus.train.labels[20:] == -1).all()
    for split in (corpus.valid, corpus.test):
        names = [corpus.classes[i] for i in split.labels]
        assert names == [label_of(text, "subject") for text in split.texts] == list(split.prompts)
    assert set(corpus.classes) <= set(corpus.words)
    plain = load_corpus(GrammarData(**sizes))
    assert plain.train.labels is None
    assert np.array_equal(plain.train.texts, corpus.train.texts)
