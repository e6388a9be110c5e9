"""Cells as texts: what is written in them, and lists of whole numbers as token ids."""

import datetime
from typing import Any

import pytest

from gptgan_jax.readers.cells import Number, as_text, text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([12, 7, 4055], "12 7 4055"),
        ([Number("12"), Number("-7")], "12 -7"),
        ([], ""),
        ([1, 2.0], None),
        ([Number("1"), Number("2.0")], None),
        ([Number("1e3")], None),
        ([1, True], None),
        ([1, None], None),
        ([[1], [2]], None),
        (["1", "2"], None),
    ],
)
def test_lists_of_whole_numbers_are_token_ids_and_other_lists_no_text(value: Any, text: str | None) -> None:
    assert text_of(value) == text
    assert as_text(value) is None


@pytest.mark.parametrize("value", ["a b", 7, 1.5, True, None, {"a": 1}, Number("1.50"), datetime.date(2026, 1, 2)])
def test_all_else_is_the_text_that_it_was(value: Any) -> None:
    assert text_of(value) == as_text(value)
