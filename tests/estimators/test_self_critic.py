"""The generator's own log-ratio for a critic: its special cases, and DPO's gradient by hand."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptgan_jax import dgsan, self_critic, spin
from gptgan_jax.errors import UserError

REAL, REFERENCE_REAL = np.array([-3.0, -5.0, -2.0]), np.array([-4.0, -4.5, -2.5])
WRITTEN, REFERENCE_WRITTEN = np.array([-2.0, -6.0, -1.0]), np.array([-1.0, -6.25, -3.0])
LOG_PROBS = tuple(jnp.asarray(x, jnp.float32) for x in (REAL, REFERENCE_REAL, WRITTEN, REFERENCE_WRITTEN))


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def gradients(estimator) -> list[np.ndarray]:  # type: ignore[no-untyped-def]
    arrays = [x.astype(jnp.float64) for x in LOG_PROBS]
    return [np.asarray(x) for x in jax.grad(lambda *x: estimator.loss(*x)[0], argnums=(0, 1, 2, 3))(*arrays)]


def test_its_gradient_is_dpos() -> None:
    """-beta sigma(-beta margin) (g log p(preferred) - g log p(refused)), the mean over pairs (their equation 7)."""
    beta, margins = 0.4, (REAL - REFERENCE_REAL) - (WRITTEN - REFERENCE_WRITTEN)
    pull = beta / (1 + np.exp(beta * margins)) / 3
    real, reference_real, written, reference_written = gradients(self_critic(scale=beta))
    np.testing.assert_allclose(real, -pull, rtol=1e-6)
    np.testing.assert_allclose(written, pull, rtol=1e-6)
    np.testing.assert_allclose(reference_real, pull, rtol=1e-6)
    np.testing.assert_allclose(reference_written, -pull, rtol=1e-6)


def test_spin_and_dgsan_are_special_cases() -> None:
    for own, other in ((self_critic(scale=0.7), spin(scale=0.7)), (self_critic("non_saturating", 1.0), dgsan())):
        for found, expected in zip(gradients(own), gradients(other), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_by_a_hinge_what_is_told_apart_by_more_than_1_teaches_nothing() -> None:
    real, _, written, _ = gradients(self_critic("hinge", scale=1.5))
    scores = 1.5 * (REAL - REFERENCE_REAL), 1.5 * (WRITTEN - REFERENCE_WRITTEN)
    np.testing.assert_allclose(real, np.where(scores[0] < 1, -1.5, 0) / 3, rtol=1e-6)
    np.testing.assert_allclose(written, np.where(scores[1] > -1, 1.5, 0) / 3, rtol=1e-6)


def test_the_reference_stays_or_is_renewed_on_schedule() -> None:
    for every, expected in ((None, [False] * 5), (2, [True, False, True, False, True])):
        estimator, found = self_critic(refresh_every=every), []
        state = estimator.init(4)
        for _ in range(5):
            state, renew = estimator.refresh(state)
            found.append(bool(renew))
        assert found == expected


def test_a_loss_without_a_minimum_is_refused() -> None:
    with pytest.raises(UserError, match="pair_loss should be one of relativistic, non_saturating, hinge"):
        self_critic("wasserstein")  # type: ignore[arg-type]
