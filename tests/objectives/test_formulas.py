"""Rewards by formula: their values by NumPy in float64, their gradients by finite differences, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptgan_jax.errors import UserError
from gptgan_jax.objectives import formulas, rewards
from gptgan_jax.objectives.rewards import Judgement

SCORES = np.array([[0.5, -2.0, 1.0, 7.0], [3.0, 0.25, 9.0, -9.0]])
MASK = np.array([[True, True, True, False], [True, True, False, False]])
S = np.where(MASK, SCORES, 0)
PREVIOUS = np.array([[0, 0.5, -2.0, 0], [0, 3.0, 0, 0]])
TO_GO = np.array([[-0.5, -1.0, 1.0, 0], [3.25, 0.25, 0, 0]])
LAST, MEAN = np.array([[1.0], [0.25]]), np.array([[-0.5 / 3], [3.25 / 2]])


def sigma(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s", S),
        ("s - s_prev", S - PREVIOUS),
        ("s * mean", S * MEAN),
        ("last + 0*s", LAST + 0 * S),
        ("to_go / 2", TO_GO / 2),
        ("0.5 * sigmoid(s) * (tanh(s) + 1)", 0.5 * sigma(S) * (np.tanh(S) + 1)),
        ("min(max(-s, -1), 2 ** 0.5)", np.minimum(np.maximum(-S, -1), 2**0.5)),
        ("log_sigmoid(s) + softplus(+s)", np.log(sigma(S)) + np.log1p(np.exp(S))),
        ("relu(s) * sign(s) + abs(exp(s / 4) - 1)", np.maximum(S, 0) + np.abs(np.exp(S / 4) - 1)),
        ("log(1 + s ** 2)", np.log(1 + S**2)),
        ("  1 - 2 * s - 3  ", 1 - 2 * S - 3),
    ],
)
def test_a_formula_is_the_arithmetic_that_it_says(text: str, expected: np.ndarray) -> None:
    judgement = Judgement(
        jnp.asarray(SCORES, jnp.float32), jnp.asarray(MASK), jnp.zeros((1, 4)), jnp.ones((1, 4), bool)
    )
    paid = rewards.formula(text)(judgement, jax.random.key(0))
    np.testing.assert_allclose(paid, np.where(MASK, expected, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "log(s) + to_go * last - mean",
        "last * log(s)",
        "mean / s",
        "last / (s_prev + 1) * s ** 0.5",
        "mean * log(to_go)",
    ],
)
def test_padding_has_no_part_in_a_gradient_even_where_a_function_has_none_there(text: str) -> None:
    formula = formulas.read(text)
    scores, mask = jnp.array([[1.0, 2.0, jnp.inf]]), jnp.array([[True, True, False]])
    weights = jnp.array([[1.0, -2.0, 5.0]])
    gradient = jax.grad(lambda s: (weights * formula(s, mask)).sum())(scores)
    assert gradient[0, 2] == 0
    step = 1e-3
    moved = [scores.at[0, t].add(sign * step) for t in (0, 1) for sign in (1, -1)]
    plus, minus, other, last = (float((weights * formula(s, mask)).sum()) for s in moved)
    expected = [(plus - minus) / (2 * step), (other - last) / (2 * step)]
    np.testing.assert_allclose(gradient[0, :2], expected, rtol=1e-2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s +", "is no formula"),
        ("", "is no formula"),
        ("s\ns", "is no formula"),
        ("q * s", "'q' is not allowed"),
        ("__import__('os')", "is not allowed"),
        ("s.__class__", "'s.__class__' is not allowed"),
        ("s[0]", "is not allowed"),
        ("[s]", "is not allowed"),
        ("s if s else 1", "is not allowed"),
        ("(lambda: s)()", "is not allowed"),
        ("s > 0", "is not allowed"),
        ("True * s", "'True' is not allowed"),
        ("'a' * s", "is not allowed"),
        ("1j * s", "'1j' is not allowed"),
        ("s // 2", "is not allowed"),
        ("~s", "is not allowed"),
        ("tanh(s, s)", "tanh takes 1, not 2"),
        ("max(s)", "max takes 2, not 1"),
        ("max(s, s, key=s)", "is not allowed"),
        ("sin(s)", "'sin(s)' is not allowed"),
        ("sigmoid", "'sigmoid' is not allowed"),
        ("1 + 2", "reads no score"),
        ("s" * 301, "at most 300 characters"),
    ],
)
def test_all_else_is_refused_in_one_line_and_never_run(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        formulas.read(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["(" * 120 + "s" + ")" * 120, "-" * 299 + "s"])
def test_a_formula_may_be_deep(text: str) -> None:
    assert formulas.read(text).names == {"s"}


def test_numbers_too_large_for_an_array_do_no_work_that_is_not_arrays() -> None:
    value = formulas.read("s * 9 ** 9 ** 9")(jnp.ones((1, 1)), jnp.ones((1, 1), bool))
    assert np.isinf(value).all()
