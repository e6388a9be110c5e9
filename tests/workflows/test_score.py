"""Which rows of a file `gptgan score` and `classify` read as texts."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from gptgan_jax.data.config import HfData
from gptgan_jax.data.corpora import Split
from gptgan_jax.data.infilling import InfillingConfig
from gptgan_jax.errors import UserError
from gptgan_jax.tokenization.chat_templates import Message
from gptgan_jax.workflows import classify, score

TURNS = [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]


def run_on(data: HfData) -> Any:
    infilling = data.infilling if data.infilling.share else None
    config = SimpleNamespace(data=data, label_prompts=False, infilling=infilling)
    return SimpleNamespace(conditional=True, config=config, classes=("a", "b"))


def scored(file: Path, data: HfData) -> Split:
    return score._read(file, run_on(data), None, None)


def classified(file: Path, data: HfData) -> Split:
    return classify._read(file, run_on(data))


@pytest.mark.parametrize("read", [scored, classified])
@pytest.mark.parametrize(("turns", "texts"), [("last", ["a2"]), ("all", ["a1", "a2"])])
def test_conversations_have_the_texts_that_the_run_learned(
    read: Any, turns: Literal["last", "all"], texts: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    messages = [{"role": role, "content": content} for role, content in TURNS]
    file.write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8")
    found = read(file, HfData(text_column="messages", assistant_turns=turns))
    assert list(found.texts) == texts
    before = tuple(Message(role, content) for role, content in TURNS[:3])
    assert list(found.prompts or ()) == (["q1"] if turns == "all" else []) + [before]


@pytest.mark.parametrize("read", [scored, classified])
def test_texts_with_blanks_are_read_as_they_were_learned(read: Any, tmp_path: Path) -> None:
    """What is missing, after the text with its blanks: the discriminator never saw a whole text by itself."""
    data = HfData(label_column="kind", infilling=InfillingConfig(share=0.5))
    rows = [{"prompt": "the _ sat", "answer": "cat", "label": "b"}, {"prompt": "a _ _", "answer": "dog ran"}]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = read(file, data)
    assert (list(found.texts), list(found.prompts or ())) == (["cat", "dog ran"], ["the _ sat", "a _ _"])
    if read is classified:
        assert found.labels is not None
        assert found.labels.tolist() == [1, -1]
    whole = tmp_path / "whole.jsonl"
    whole.write_text(json.dumps({"text": "the cat sat", "kind": "b"}), encoding="utf-8")
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat sat\n", encoding="utf-8")
    for other in (whole, lines):
        with pytest.raises(UserError, match=r"no column answer, prompt; there are: text, kind|should (be|have) rows"):
            read(other, data)


def test_a_scored_text_s_label_is_one_of_the_run_s(tmp_path: Path) -> None:
    """As `gptgan classify` and `sample` ask: another name would be a prompt that the generator never read."""
    run = run_on(HfData(label_column="kind", label_prompts=True))
    run.config.label_prompts = True
    file = tmp_path / "rows.csv"
    file.write_text("text,kind\nx y,b\nz,\n", encoding="utf-8")
    assert list(score._read(file, run, None, None).prompts or ()) == ["b", ""]
    file.write_text("text,kind\nx y,b\nz,B\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"row 2 \(line 3\): label 'B' is none of the run's labels: a, b"):
        score._read(file, run, None, None)
