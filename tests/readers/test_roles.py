"""Columns are taken for texts and prompts only where their names or contents tell."""

from typing import Any

import pytest

from gptgan_jax.readers.roles import Roles, roles_of

TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def row(i: int, columns: str) -> dict[str, Any]:
    """A value for each column by its mark: * a text, 1 one of two, [] a conversation, # token ids, . a long text."""
    values = {"*": f"text {i}", "1": f"x{i % 2}", "[]": TALK, "#": [i, 2, 3], ".": f"long text {i} " * 9, "0": i}
    return {name: values[mark] for name, _, mark in (column.partition("=") for column in columns.split())}


@pytest.mark.parametrize(
    ("columns", "text", "prompt"),
    [
        ("id=* question=* answer=*", "answer", "question"),
        ("question=* answer=1", "answer", "question"),
        ("prompt_id=* prompt=* chosen=* rejected=.", "chosen", "prompt"),
        ("prompt_id=* prompt=* chosen=[] rejected=[] score=0", "chosen", "prompt"),
        ("promptId=. chosen=[] rejected=[]", "chosen", "chosen"),
        ("title=* dialog=[]", "dialog", "dialog"),
        ("context=[] reply=*", "reply", "context"),
        ("text=* source=1", "text", None),
        ("source=* target=*", "target", "source"),
        ("text=* target=1", "text", None),
        ("input=* label=1", "input", None),
        ("input=* output=*", "output", "input"),
        ("Context=. Response=*", "Response", "Context"),
        ("dialogue=. summary=* id=*", "summary", "dialogue"),
        ("text=. summary=*", "summary", "text"),
        ("article=. highlights=* id=*", "highlights", "article"),
        ("instruction=* input=* output=*", "output", "instruction"),
        ("url=* title=* body=.", "body", None),
        ("title=* paper=.", "paper", None),
        ("label=1 note=1 review=*", "review", None),
        ("question=*", "question", None),
        ("uuid=*", "uuid", None),
        ("ids=#", "ids", None),
        ("labels=# input_ids=#", "input_ids", None),
        ("n=0", None, None),
    ],
)
def test_roles_are_told_by_names_and_contents(columns: str, text: str | None, prompt: str | None) -> None:
    names = [column.partition("=")[0] for column in columns.split()]
    found = roles_of(names, [row(i, columns) for i in range(60)])
    assert (found.text, found.prompt, found.sure) == (text, prompt, True)


@pytest.mark.parametrize("columns", ["context=. question=* title=*", "left=* right=*", "question=* context=."])
def test_what_is_open_is_not_guessed(columns: str) -> None:
    names = [column.partition("=")[0] for column in columns.split()]
    found: Roles = roles_of(names, [row(i, columns) for i in range(60)])
    assert not found.sure
    assert {found.text, found.prompt, *found.others} - {None} == set(names)
