"""Errors in what a user gives: `UserError`, and unknown names with a suggestion of the closest known one."""

import difflib
import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class UserError(ValueError):
    """Bad input. The message is one line: what is wrong, where (file, line or key), and what would be right.

    Several mistakes in one configuration have one line each. The command line prints them and exits with status 2; for
    a library caller this is an ordinary ValueError.
    """

    @property
    def lines(self) -> list[str]:
        """The mistakes, one line each."""
        return str(self).split("\n")

    def within(self, where: str) -> "UserError":
        """The same error with a prefix on each line: "config.yaml: seed ..."."""
        return UserError("\n".join(f"{where}: {line}" for line in self.lines))


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """The message for an unknown name: unknown key 'hiden'; did you mean 'hidden'?"""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"unknown {kind} {name!r}; " + (
        f"did you mean {near[0]!r}?" if near else f"the {kind}s here are {', '.join(known)}"
    )


def suggests_names(callee: F) -> F:
    """Decorator: a misspelt keyword argument raises a TypeError that suggests the right name.

    Args:
        callee: a function, or a named tuple or dataclass, whose constructor is changed in place.
    """
    if isinstance(callee, type):
        constructor = "__new__" if issubclass(callee, tuple) else "__init__"
        setattr(callee, constructor, _suggesting(getattr(callee, constructor), callee.__name__, skipped=1))
        return callee
    return _suggesting(callee, callee.__name__)


def _suggesting(function: Any, called: str, skipped: int = 0) -> Any:
    """The function with its keyword arguments checked.

    Args:
        function: all of its parameters may be given by name.
        called: its name in the message.
        skipped: number of leading parameters that callers do not give.
    """
    known = list(inspect.signature(function).parameters)[skipped:]
    names = frozenset(known)

    @functools.wraps(function)
    def checked(*args: Any, **keywords: Any) -> Any:
        if not names.issuperset(keywords):
            wrong = (name for name in keywords if name not in names)
            raise TypeError(f"{called}: " + "; ".join(unknown("argument", name, known) for name in wrong))
        return function(*args, **keywords)

    return checked
