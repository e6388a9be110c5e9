"""Pydantic's errors in a configuration, as one line per mistake."""

from collections.abc import Collection, Sequence
from typing import Any

from pydantic import ValidationError

from gptgan_jax.errors import unknown
from gptgan_jax.schema.structure import annotation_of, brief, classes_of, element_of, fields_of, kind_of

# Types of errors whose message says what was given.
_TOLD = ("value_error", "missing", "unexpected_keyword_argument")


def mistakes_in(error: ValidationError, cls: Any, leaving_out: Collection[str] = ()) -> list[str]:
    """The mistakes, in the order of the keys: key, what is wrong, what it got.

    Args:
        error: from a section or a whole configuration.
        cls: the section or configuration, for the names of its keys.
        leaving_out: pydantic's types of errors that are not reported.
    """
    found: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] not in leaving_out:
            key, place = _place(detail["loc"], cls)
            # For a key with several types pydantic reports one error for each: the first is enough.
            found.setdefault(key if key else str(detail["msg"]), _lines(detail, place, cls))
    return [line for lines in found.values() for line in lines]


def _lines(detail: Any, place: str, cls: Any) -> list[str]:
    """The messages of one detail: a check of a whole section may have found several mistakes."""
    if detail["type"] == "unexpected_keyword_argument":
        return [unknown("key", place, fields_of(cls))]
    prefix = f"{place}: " if place else ""
    if detail["type"] in ("string_too_short", "too_short") and not detail["input"]:
        return [f"{prefix}is empty; give it a value, or leave the key out"]
    got = "" if detail["type"] in _TOLD else f", not {brief(detail['input'])}"
    messages = detail["msg"].removeprefix("Value error, ").split("\n")
    return [f"{prefix}{(one[0].lower() + one[1:]).removeprefix('input ')}{got}" for one in messages]


def _place(location: Sequence[str | int], cls: Any) -> tuple[str, str]:
    """Pydantic's place of a mistake: the key, and the key with the place in its value, where that is a list.

    After a section of several kinds a place has the kind, and after a value of several types the type; neither is in a
    key.
    """
    parts: list[str] = []
    inside: list[str] = []
    annotation: Any = cls
    for part in location:
        classes = classes_of(annotation)
        chosen = [one for one in classes if kind_of(one) == part]
        if len(classes) > 1 and chosen:
            annotation = chosen[0]
        elif classes or element_of(annotation) is not None:
            parts.append(str(part))
            annotation = element_of(annotation) or annotation_of(annotation, str(part), {})
        elif isinstance(part, int):
            inside.append(str(part))
    return ".".join(parts), ".".join([*parts, *inside])
