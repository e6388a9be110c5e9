"""SentiGAN's expected gradient over all texts: each token's value, weighted by its own probability."""

from collections.abc import Iterator

import jax
import numpy as np
import pytest
from estimators.enumeration import DENSE, chances, expected_gradient, score_functions, token_chances

from gptgan_jax import no_baseline, penalised, rollout


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def test_a_token_is_credited_with_its_value_by_its_own_probability() -> None:
    values = -np.abs(DENSE)
    by_hand = np.einsum("i,it,it,itpv->pv", chances(), token_chances(), values, score_functions())
    np.testing.assert_allclose(expected_gradient(penalised(2), values), by_hand, atol=1e-12)
    assert np.abs(by_hand).max() > 0.05


def test_that_is_another_gradient_than_of_rollouts() -> None:
    values = -np.abs(DENSE)
    difference = expected_gradient(penalised(2), values) - expected_gradient(rollout(2, no_baseline()), values)
    assert np.abs(difference).max() > 0.05


def test_a_constant_is_no_baseline_of_it() -> None:
    """With a penalty that is the same everywhere it still learns: likely tokens become less likely."""
    same = np.full_like(DENSE, -1.0)
    expected = -np.einsum("i,it,itpv->pv", chances(), token_chances(), score_functions())
    np.testing.assert_allclose(expected_gradient(penalised(2), same), expected, atol=1e-12)
    assert np.abs(expected).max() > 0.05
