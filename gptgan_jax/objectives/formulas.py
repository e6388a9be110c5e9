"""Rewards by a short formula of the discriminator's scores, such as 0.5 * sigmoid(s) * (tanh(s) + 1).

A formula is arithmetic on a few names and nothing else: it is parsed into a syntax tree that may only contain what is
in `NAMES`, `FUNCTIONS` and `OPERATORS`, and is not run as Python.
"""

import ast
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gptgan_jax.errors import UserError
from gptgan_jax.objectives.likelihood import is_last
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.types import Array

LONGEST = 300
"""The most characters of a formula."""
NAMES = {
    "s": "the score",
    "s_prev": "the score one token before, 0 at the first",
    "last": "the score at the text's last token",
    "mean": "the mean score of the text's tokens",
    "to_go": "the sum of scores from the token on",
}
FUNCTIONS: dict[str, tuple[Callable[..., Array], int]] = {
    "sigmoid": (jax.nn.sigmoid, 1),
    "log_sigmoid": (jax.nn.log_sigmoid, 1),
    "softplus": (jax.nn.softplus, 1),
    "tanh": (jnp.tanh, 1),
    "relu": (jax.nn.relu, 1),
    "exp": (jnp.exp, 1),
    "log": (jnp.log, 1),
    "abs": (jnp.abs, 1),
    "sign": (jnp.sign, 1),
    "min": (jnp.minimum, 2),
    "max": (jnp.maximum, 2),
}
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: jnp.power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
ALLOWED = (
    f"a formula has numbers, the names {', '.join(NAMES)}, the operators + - * / ** and parentheses, and the functions "
    f"{', '.join(FUNCTIONS)}"
)


class Formula(NamedTuple):
    """A parsed formula.

    Attributes:
        text: its source.
        names: those of `NAMES` that it uses.
    """

    text: str
    names: frozenset[str]

    def __call__(self, scores: Array, mask: Array) -> Array:
        """Its value at every token: float [R, T], bool [R, T] -> float32 [R, T]; 0 outside the mask."""
        check_arrays("formula", scores=(scores, "float [R, T]"), mask=(mask, "bool [R, T]"))
        s, ends = jnp.where(mask, scores.astype(jnp.float32), 0.0), is_last(mask)

        def of_last(x: Array) -> Array:
            return jnp.where(ends, x, 0.0).sum(axis=1, keepdims=True)

        def filled(x: Array) -> Array:
            """The last token's value in the padding too, where nothing then lacks a gradient that it has inside."""
            return jnp.where(mask, x, of_last(x))

        to_go = jnp.flip(jnp.cumsum(jnp.flip(s, axis=1), axis=1), axis=1)
        count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
        values = {
            "s": filled(s),
            "s_prev": filled(jnp.pad(s[:, :-1], ((0, 0), (1, 0)))),
            "last": of_last(s),
            "mean": s.sum(axis=1, keepdims=True) / count,
            "to_go": filled(to_go),
        }
        found = jnp.broadcast_to(_value(_tree(self.text), {name: values[name] for name in self.names}), s.shape)
        return jnp.where(mask, found, 0.0)


def read(text: str) -> Formula:
    """Parses a formula.

    Raises:
        UserError: it is not a formula, or has something that `ALLOWED` does not list.
    """
    tree = _tree(text)
    names: set[str] = set()
    _check(tree, text, names)
    if not names:
        raise UserError(f"the formula {text!r} reads no score; {ALLOWED}")
    return Formula(text, frozenset(names))


def _tree(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise UserError(f"a formula has at most {LONGEST} characters, not {len(text)}")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise UserError(f"{text!r} is no formula; {ALLOWED}") from None


def _check(node: ast.AST, text: str, names: set[str]) -> None:
    """Raises UserError for anything that is not allowed, and collects the names."""
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float()):
            return
        case ast.Name(id=name) if name in NAMES:
            names.add(name)
            return
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            _check(left, text, names)
            _check(right, text, names)
            return
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            _check(operand, text, names)
            return
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            if len(arguments) != FUNCTIONS[name][1]:
                raise UserError(f"in the formula {text!r}, {name} takes {FUNCTIONS[name][1]}, not {len(arguments)}")
            for argument in arguments:
                _check(argument, text, names)
            return
    raise UserError(f"in the formula {text!r}, {ast.unparse(node)!r} is not allowed: {ALLOWED}")


def _value(node: ast.AST, values: dict[str, Array]) -> Array:
    """The value of a tree that `_check` has accepted."""
    match node:
        case ast.Constant(value=number):
            return jnp.float32(number)
        case ast.Name(id=name):
            return values[name]
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_value(left, values), _value(right, values))
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](_value(operand, values))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return FUNCTIONS[name][0](*(_value(argument, values) for argument in arguments))
    raise AssertionError(node)
