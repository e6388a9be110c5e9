"""Which rows of a file `gptgan score` and `classify` read as texts."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from gptgan_jax.data.config import HfData
from gptgan_jax.data.corpora import Split
from gptgan_jax.tokenization.chat_templates import Message
from gptgan_jax.workflows import classify, score

TURNS = [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]


def scored(file: Path, data: HfData) -> Split:
    run: Any = SimpleNamespace(conditional=True, config=SimpleNamespace(data=data, label_prompts=False))
    return score._read(file, run, None, None)


def classified(file: Path, data: HfData) -> Split:
    return classify._read(file, data, ())


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
