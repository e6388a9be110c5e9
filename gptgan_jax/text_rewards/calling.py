"""A Python function of texts, called for a batch of them in this process: its arguments, and what it may return.

A function takes a list of texts and returns a number for each. It also gets its options by name, and those of
`prompts`, `references`, `columns` and `tokens` (see `Texts`) that are among its parameters.
"""

import inspect
import numbers
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gptgan_jax.errors import UserError

Function = Callable[..., Sequence[float]]
EXTRAS = ("prompts", "references", "columns", "tokens")
LONGEST_SHOWN = 80
SEARCH_SECONDS = 5.0
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Texts:
    """The arguments of a function: N texts, and lists with an entry per text; None for what the function doesn't take.

    Attributes:
        texts: generated texts.
        prompts: the prompt of each, "" for text without prompts.
        references: the real text, or the right answer, for the same prompt.
        columns: other columns of the prompt's row, by name.
        tokens: the token ids of each text, including its end.
    """

    texts: list[str]
    prompts: list[str] | None = None
    references: list[str] | None = None
    columns: dict[str, list[Any]] | None = None
    tokens: list[list[int]] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def part(self, start: int, stop: int) -> "Texts":
        """The entries from `start` to `stop`."""

        def cut(values: list[Any] | None) -> list[Any] | None:
            return None if values is None else values[start:stop]

        columns = None if self.columns is None else {name: values[start:stop] for name, values in self.columns.items()}
        return Texts(self.texts[start:stop], cut(self.prompts), cut(self.references), columns, cut(self.tokens))


@dataclass(frozen=True)
class Call:
    """A function with its options.

    Attributes:
        name: its name in messages.
        function: takes texts, and those of `EXTRAS` that are among its parameters.
        options: its other arguments.
        per_token: it returns a list for each text, one number per token, instead of a number.
    """

    name: str
    function: Function
    options: Mapping[str, Any] = field(default_factory=dict)
    per_token: bool = False

    @property
    def takes(self) -> tuple[str, ...]:
        """Those of `EXTRAS` that it gets."""
        parameters = signature_of(self.function)
        anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        return tuple(extra for extra in EXTRAS if anything or extra in parameters)

    def check(self) -> None:
        """Raises UserError if the function does not take the options, or lacks an argument that it needs."""
        if not callable(self.function):
            raise UserError(f"reward {self.name} should be a function of texts, not {type(self.function).__name__}")
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):  # a function in C
            return
        try:
            signature.bind([], **dict.fromkeys(self.takes), **self.options)
        except TypeError as error:
            named = [name for name in list(signature.parameters)[1:] if name not in EXTRAS]
            options = f"its options are {', '.join(named)}" if named else "it has no options"
            raise UserError(f"reward {self.name}: {error}; {options}") from None

    def __call__(self, texts: Texts) -> list[Any]:
        """The returned numbers, checked.

        Raises:
            UserError: the function failed, or returned something other than finite numbers for the texts.
        """
        try:
            return self._checked(self._called(texts), texts)
        except UserError:
            raise
        except Exception as error:
            where = self._failing(texts)
            raise UserError(f"reward {self.name} failed{where}: {type(error).__name__}: {_line(error)}") from error

    def _called(self, texts: Texts) -> Any:
        extras = {name: getattr(texts, name) for name in self.takes}
        return self.function(texts.texts, **extras, **self.options)

    def _failing(self, texts: Texts) -> str:
        """The text at which the function fails, found by calling it for each text, within a time limit."""
        until = time.monotonic() + SEARCH_SECONDS
        for i, text in enumerate(texts.texts):
            if time.monotonic() > until:
                break
            try:
                self._called(texts.part(i, i + 1))
            except Exception:
                return f" at the text {shown(text)}"
        return f" at {len(texts)} texts together, from {shown(texts.texts[0])} on" if len(texts) else ""

    def _checked(self, found: Any, texts: Texts) -> list[Any]:
        try:
            values = list(found)
        except TypeError:
            raise UserError(
                f"reward {self.name} gave {type(found).__name__}, and should give a list with a number for each text"
            ) from None
        if len(values) != len(texts):
            raise UserError(f"reward {self.name} gave {len(values)} numbers for {len(texts)} texts")
        return [self._number(value, i, texts) for i, value in enumerate(values)]

    def _number(self, value: Any, i: int, texts: Texts) -> Any:
        if not self.per_token:
            return self._finite(value, texts.texts[i])
        assert texts.tokens is not None
        try:
            values = list(value)
        except TypeError:
            values = []
        if len(values) != len(texts.tokens[i]):
            raise UserError(
                f"reward {self.name} gave {len(values)} numbers for the {len(texts.tokens[i])} tokens of the text "
                f"{shown(texts.texts[i])}"
            )
        return [self._finite(one, texts.texts[i]) for one in values]

    def _finite(self, value: Any, text: str) -> float:
        number: Any = value.item() if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0 else value
        if not isinstance(number, numbers.Real):
            raise UserError(f"reward {self.name} gave {shown(number)}, which is no number, for the text {shown(text)}")
        if not abs(float(number)) <= LARGEST:  # also catches NaN
            raise UserError(f"reward {self.name} gave {float(number)} for the text {shown(text)}")
        return float(number)


class Watched(list[str]):
    """Texts that record which of them was read last, to report the one at which a function hangs."""

    last = 0

    def __iter__(self) -> Iterator[str]:
        for i in range(len(self)):
            yield self[i]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int):
            self.last = index
        return super().__getitem__(index)


class Timed:
    """A call in a separate thread with a time limit. Not thread-safe.

    Threads can't be ended, so a call that takes too long goes on in the background. Until it has returned, no other is
    started: a user's function need not be thread-safe.
    """

    def __init__(self, call: Call, timeout: float) -> None:
        self.call, self.timeout = call, timeout
        self._late: tuple[threading.Thread, str] | None = None

    def __call__(self, texts: Texts) -> list[Any]:
        """The result of the call.

        Raises:
            UserError: as the call does, or it took longer, or an earlier one that took longer has not returned yet.
        """
        if self._late is not None and self._late[0].is_alive():
            raise UserError(self._late[1])
        watched = Watched(texts.texts)
        given = Texts(watched, texts.prompts, texts.references, texts.columns, texts.tokens)
        outcome: list[Any] = []

        def work() -> None:
            try:
                outcome.append(self.call(given))
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=work, name=f"reward {self.call.name}", daemon=True)
        thread.start()
        thread.join(self.timeout)
        if not outcome:
            self._late = thread, late(self.call.name, self.timeout, [watched[watched.last]])
            raise UserError(self._late[1])
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]


def late(name: str, timeout: float, texts: Sequence[str]) -> str:
    """The message for a function that takes too long, at one of these texts."""
    where = "the text" if len(texts) == 1 else f"one of {len(texts)} texts, of which the first is"
    return f"reward {name} took longer than its timeout of {timeout:g} seconds, at {where} {shown(texts[0])}"


def shown(value: Any) -> str:
    """A text as a Python literal, without its middle if it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN // 2]}…{text[-LONGEST_SHOWN // 2 :]}"


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}…"


def signature_of(function: Function) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function by name; empty for functions in C, which don't declare them."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
