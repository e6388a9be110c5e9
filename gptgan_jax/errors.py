"""What is said when something is given wrong: `UserError`, and names that are none, with the nearest that is one."""

import difflib
import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class UserError(ValueError):
    """Bad input. The message is one line: what is wrong, where (file, line or key), what would be right.

    Several mistakes in one configuration are a line each. The command line prints them and exits with status 2; a
    library caller sees an ordinary ValueError.
    """

    @property
    def lines(self) -> list[str]:
        """The mistakes, a line each."""
        return str(self).split("\n")

    def within(self, where: str) -> "UserError":
        """The same error, each of its lines after what it is about: "config.yaml: seed ..."."""
        return UserError("\n".join(f"{where}: {line}" for line in self.lines))


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """What to say of a name that is none: unknown key 'hiden'; did you mean 'hidden'?"""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"unknown {kind} {name!r}; " + (
        f"did you mean {near[0]!r}?" if near else f"the {kind}s here are {', '.join(known)}"
    )


def suggests_names(callee: F) -> F:
    """Decorator of what users call with names: one that is misspelt is a TypeError that says which was meant.

    Args:
        callee: a function, or a class that is a named tuple or a dataclass, whose constructor is changed in place.
    """
    if isinstance(callee, type):
        constructor = "__new__" if issubclass(callee, tuple) else "__init__"
        setattr(callee, constructor, _suggesting(getattr(callee, constructor), callee.__name__, skipped=1))
        return callee
    return _suggesting(callee, callee.__name__)


def _suggesting(function: Any, called: str, skipped: int = 0) -> Any:
    """The function with its names checked.

    Args:
        function: all of its parameters may be given by name.
        called: what the message calls it.
        skipped: parameters at the beginning that callers do not give.
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
