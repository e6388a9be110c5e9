"""Several rewards on one scale, against NumPy in float64."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gptgan_jax import TextReward
from gptgan_jax.errors import UserError
from gptgan_jax.objectives.text_rewards import Pay, combined, linear_schedule, normalised, without_signal

RNG = np.random.default_rng(0)
LENGTHS = np.array([3, 1, 2, 3, 3, 2])
MASK = np.arange(3) < LENGTHS[:, None]
LAST = np.arange(3) == LENGTHS[:, None] - 1
OF_D = RNG.normal(2, 3, MASK.shape)
TEXT, TOKENS = RNG.normal(5, 2, 6), RNG.normal(1, 4, MASK.shape)
WEIGHTS = 0.5, 2.0, -0.7
STEP = jnp.int32(0)


def pay(dense: bool, values: bool = False, samples: int = 3) -> Pay:
    of_d = OF_D if dense or values else OF_D * LAST
    return Pay(jnp.asarray(np.where(MASK, of_d, 1e3), jnp.float32), jnp.asarray(MASK), samples, values, dense)


def rewards(text: np.ndarray = TEXT) -> list:
    return [
        (TextReward("text", lambda *_: None, WEIGHTS[1]), jnp.asarray(text, jnp.float32)),  # type: ignore[arg-type]
        (TextReward("tokens", lambda *_: None, WEIGHTS[2]), jnp.asarray(np.where(MASK, TOKENS, 1e3), jnp.float32)),  # type: ignore[arg-type]
        (TextReward("measured", lambda *_: None, 0.0), jnp.full(6, jnp.inf)),  # type: ignore[arg-type]
    ]


def centred(values: np.ndarray, size: int) -> np.ndarray:
    groups = values.reshape(-1, size)
    return ((groups - groups.mean(axis=1, keepdims=True)) / groups.std(axis=1, keepdims=True)).ravel()


def divided(values: np.ndarray, totals: np.ndarray, size: int) -> np.ndarray:
    return values / np.repeat(totals.reshape(-1, size).std(axis=1), size)[:, None]


def total(values: np.ndarray) -> np.ndarray:
    return np.where(MASK, values, 0).sum(axis=1)


@pytest.mark.parametrize("scaling", ["none", "group", "batch"])
@pytest.mark.parametrize("dense", [False, True])
def test_rewards_are_scaled_weighted_and_summed(scaling, dense: bool) -> None:  # type: ignore[no-untyped-def]
    size = {"none": 0, "group": 3, "batch": 6}[scaling]
    found = combined(pay(dense), rewards(), STEP, scaling, WEIGHTS[0])
    text, tokens, of_d = TEXT, TOKENS, OF_D if dense else OF_D * LAST
    if size:
        text, tokens = centred(TEXT, size), divided(TOKENS, total(TOKENS), size)
        of_d = divided(OF_D, total(OF_D), size) if dense else centred(total(OF_D * LAST), size)[:, None] * LAST
    expected = WEIGHTS[0] * of_d + WEIGHTS[1] * text[:, None] * LAST + WEIGHTS[2] * tokens
    np.testing.assert_allclose(found, np.where(MASK, expected, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scaling", ["none", "group"])
def test_where_values_are_paid_a_token_is_worth_all_that_follows(scaling) -> None:  # type: ignore[no-untyped-def]
    found = combined(pay(False, values=True), rewards(), STEP, scaling, WEIGHTS[0])
    text, tokens, of_d = TEXT, TOKENS, OF_D
    if scaling == "group":
        text, tokens = centred(TEXT, 3), divided(TOKENS, total(TOKENS), 3)
        of_d = divided(OF_D, total(OF_D * LAST), 3)
    following = np.where(MASK, tokens, 0)[:, ::-1].cumsum(axis=1)[:, ::-1]
    expected = WEIGHTS[0] * of_d + WEIGHTS[1] * text[:, None] + WEIGHTS[2] * following
    np.testing.assert_allclose(found, np.where(MASK, expected, 0), rtol=1e-4, atol=1e-5)


def test_with_one_text_a_prompt_a_group_is_the_step() -> None:
    one, other = (combined(pay(True, samples=1), rewards(), STEP, scaling) for scaling in ("group", "batch"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("level", [0.0, 0.1, -7.3, 1e4])
def test_equal_rewards_are_paid_nothing_whatever_rounding_leaves(level: float) -> None:
    text = np.array([level] * 3 + [1.0, 2.0, 4.0])
    found = np.asarray(normalised(jnp.asarray(text, jnp.float32), 3))
    np.testing.assert_allclose(found, [0, 0, 0, *centred(text[3:], 3)], rtol=1e-5, atol=0)
    assert without_signal(jnp.asarray(text, jnp.float32), 3).tolist() == [True, False]


def test_different_rewards_whose_sum_is_equal_stay_apart() -> None:
    """What GDPO is for: texts paid (0, 2) and (1, 1) are alike in the sum, and are not when each has its own scale."""
    first, second = np.array([0.0, 1.0, 1.0]), np.array([2.0, 1.0, 0.0])
    names = [TextReward(name, lambda *_: None) for name in "ab"]  # type: ignore[arg-type]
    nothing = Pay(jnp.zeros((3, 1)), jnp.ones((3, 1), bool), 3, False, False)
    found = combined(
        nothing, list(zip(names, (jnp.asarray(first), jnp.asarray(second)), strict=True)), STEP, "group", 0.0
    )
    np.testing.assert_allclose(found[:, 0], centred(first, 3) + centred(second, 3), rtol=1e-5, atol=1e-6)
    assert abs(float(found[0, 0] - found[1, 0])) > 0.5


def test_a_schedule_is_a_line_and_then_stays() -> None:
    factor = linear_schedule(1.0, 0.2, 4)
    assert [float(factor(jnp.int32(step))) for step in (0, 1, 4, 9)] == pytest.approx([1.0, 0.8, 0.2, 0.2])


@pytest.mark.parametrize(
    ("start", "end", "steps", "says"),
    [
        (1.0, 0.0, 0, "steps should be a whole number, at least 1, not 0"),
        (1.0, 0.0, -4, "steps should be a whole number, at least 1, not -4"),
        (1.0, 0.0, 2.5, "steps should be a whole number, at least 1, not 2.5"),
        (float("nan"), 0.0, 4, "start should be a finite number"),
        (1.0, float("inf"), 4, "end should be a finite number"),
    ],
)
def test_a_schedule_of_no_steps_or_of_no_number_is_refused(start: Any, end: Any, steps: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        linear_schedule(start, end, steps)
