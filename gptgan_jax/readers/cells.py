"""Cell values as texts, labels and JSON, exactly as written in their file."""

import datetime
import decimal
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gptgan_jax.tokenization.token_ids import TokenIds

# The longest value in a message, in characters.
LONGEST_SHOWN = 80
_WHOLE = re.compile(r"-?[0-9]+")
_NO_LABEL = re.compile(r"\s*|-1(\.0+)?")
_DATES = (datetime.date, datetime.time)  # a datetime is a date


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a JSON file, with its original digits.

    Attributes:
        text: such as 7, 1.50 or 1e5; also NaN, Infinity and -Infinity, which are not JSON but which Python writes.
    """

    text: str

    @property
    def finite(self) -> bool:
        """Whether it is a valid JSON number."""
        return self.text[-1].isdigit()


def as_text(value: Any, dates: bool = True) -> str | None:
    """A value as the text in its file; None for anything that is not text: null, bytes, lists, objects.

    Args:
        value: of a cell. Booleans are written as in JSON, dates and times of a typed file by ISO 8601.
        dates: whether the file itself holds dates and times; False if a reader guessed them from texts.
    """
    match value:
        case str():
            return value
        case Number():
            return value.text if value.finite else None
        case bool():
            return "true" if value else "false"
        case int() | decimal.Decimal():
            return str(value)
        case float():
            return repr(value) if math.isfinite(value) else None
    if isinstance(value, _DATES) and dates:
        return value.isoformat()
    return None


def text_of(value: Any, dates: bool = True) -> str | None:
    """`as_text`; for a list of integers (token ids, such as [12, 7, 4055]) the numbers separated by spaces."""
    if not isinstance(value, list | tuple):
        return as_text(value, dates)
    words = [as_text(one) if isinstance(one, Number | int) and not isinstance(one, bool) else None for one in value]
    if all(word is not None and _WHOLE.fullmatch(word) for word in words):
        return TokenIds(" ".join(word for word in words if word is not None))
    return None


def as_label(value: Any, names: Sequence[str] | None = None) -> str | None:
    """The class that a label names; None for no label: null, an empty cell, -1.

    Args:
        value: a text, which is always the class itself (even None, NA, 007), or an integer.
        names: the names of the classes, if numbers stand for them.

    Raises:
        ValueError: for any other value, or a number without a name; the message says what it is not.
    """
    if isinstance(value, Number):
        if not value.finite:
            return None
        value = value.text if _WHOLE.fullmatch(value.text) else float(value.text)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():  # numbers with gaps come as floats
        value = int(value)
    if names is not None and isinstance(value, int):
        if value >= len(names):
            raise ValueError(f"is none of the {len(names)} classes that the file names, which count from 0")
        return None if value < 0 else names[value]
    if not isinstance(value, str | int):
        raise ValueError("is neither a string nor a whole number")
    text = as_text(value) or ""
    return None if _NO_LABEL.fullmatch(text) else text


def label_order(label: str) -> tuple[bool, int, str]:
    """A sort key for labels: integers by value, then the others."""
    whole = _WHOLE.fullmatch(label) is not None and len(label) < 20
    return (not whole, int(label) if whole else 0, label)


def as_json(value: Any) -> str:
    """A value as one line of JSON: numbers with their digits, dates by ISO 8601, null for a float that is not finite.

    Raises:
        ValueError: for anything that JSON can't represent, such as bytes.
    """
    match value:
        case Number():
            return value.text
        case dict():
            return "{" + ", ".join(f"{as_json(str(name))}: {as_json(one)}" for name, one in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(as_json, value)) + "]"
        case decimal.Decimal():
            return str(value) if value.is_finite() else "null"
        case float() if not math.isfinite(value):
            return "null"
    if isinstance(value, _DATES):
        value = value.isoformat()
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"it holds {_cut(repr(value))}, which JSON has not")
    return json.dumps(value, ensure_ascii=False)


def as_python(value: Any) -> Any:
    """A value as Python's own JSON reader returns it: numbers as int and float, also in lists and objects."""
    match value:
        case Number() if len(value.text) < 1000:
            return json.loads(value.text)
        case Number():  # of more digits than Python reads
            return value.text
        case dict():
            return {name: as_python(one) for name, one in value.items()}
        case list() | tuple():
            return [as_python(one) for one in value]
    return value


def shown(value: Any) -> str:
    """A value for a message: as JSON if possible, shortened if it is long."""
    try:
        return _cut(as_json(value))
    except (ValueError, RecursionError):
        return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
