"""SPIN's loss by hand, where its gradient goes, and where it ends."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from gptgan_jax import spin

REAL, REFERENCE_REAL = np.array([-3.0, -5.0, -2.0]), np.array([-4.0, -4.5, -2.5])
WRITTEN, REFERENCE_WRITTEN = np.array([-2.0, -6.0, -1.0]), np.array([-1.0, -6.25, -3.0])
MARGINS = np.array([2.0, -0.75, -1.5])
DATA = np.array([0.4, 0.3, 0.2, 0.1])
REFERENCE = np.array([0.1, 0.25, 0.45, 0.2])


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("scale", [0.1, 2.0])
def test_the_loss_by_hand(scale: float) -> None:
    loss, metrics = spin(scale).loss(*(jnp.asarray(x) for x in (REAL, REFERENCE_REAL, WRITTEN, REFERENCE_WRITTEN)))
    assert float(loss) == pytest.approx(np.log1p(np.exp(-scale * MARGINS)).mean(), rel=1e-12)
    assert float(metrics["margin"]) == pytest.approx(MARGINS.mean(), rel=1e-12)
    assert float(metrics["preferred_real"]) == pytest.approx(1 / 3, rel=1e-6)


def test_at_the_reference_itself_nothing_is_preferred() -> None:
    loss, metrics = spin().loss(*(jnp.asarray(x) for x in (REAL, REAL, WRITTEN, WRITTEN)))
    assert float(loss) == pytest.approx(np.log(2), rel=1e-12)
    assert float(metrics["margin"]) == float(metrics["preferred_real"]) == 0


@pytest.mark.parametrize("scale", [0.1, 2.0])
def test_the_real_text_goes_up_and_the_written_one_down_the_less_the_surer(scale: float) -> None:
    arrays = [jnp.asarray(x) for x in (REAL, REFERENCE_REAL, WRITTEN, REFERENCE_WRITTEN)]
    real, reference_real, written, reference_written = jax.grad(
        lambda *x: spin(scale).loss(*x)[0], argnums=(0, 1, 2, 3)
    )(*arrays)
    pull = scale / (1 + np.exp(scale * MARGINS)) / 3
    np.testing.assert_allclose(-real, pull, rtol=1e-12)
    np.testing.assert_allclose(-written, -pull, rtol=1e-12)
    np.testing.assert_allclose(-reference_real, -pull, rtol=1e-12)
    np.testing.assert_allclose(-reference_written, pull, rtol=1e-12)


def expected_loss(logits: jax.Array, scale: float, reference: np.ndarray) -> jax.Array:
    """Over all pairs of a real and a written text, of a generator that may give every text any probability."""
    log_p, log_q = jax.nn.log_softmax(logits), jnp.log(reference)
    estimator = spin(scale)

    def pair(real: jax.Array, written: jax.Array) -> jax.Array:
        return estimator.loss(log_p[real][None], log_q[real][None], log_p[written][None], log_q[written][None])[0]

    losses = jax.vmap(lambda i: jax.vmap(lambda j: pair(i, j))(jnp.arange(4)))(jnp.arange(4))
    return DATA @ losses @ reference


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_the_unrestricted_optimum_is_the_reference_times_a_power_of_the_density_ratio(scale: float) -> None:
    gradient = jax.jit(jax.value_and_grad(lambda x: expected_loss(x, scale, REFERENCE)))
    found = optimize.minimize(
        lambda x: tuple(np.asarray(y, np.float64) for y in gradient(jnp.asarray(x))),
        np.log(REFERENCE),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-10},
    ).x
    probs = np.exp(found) / np.exp(found).sum()
    expected = REFERENCE * (DATA / REFERENCE) ** (1 / scale)
    expected /= expected.sum()
    np.testing.assert_allclose(probs, expected, atol=1e-6)
    assert np.abs(expected - REFERENCE).max() > 0.1
    assert (np.abs(expected - DATA).max() < 1e-12) == (scale == 1)


def test_where_the_reference_writes_as_the_data_is_the_loss_asks_for_no_change() -> None:
    gradient = jax.grad(lambda x: expected_loss(x, 0.1, DATA))(jnp.log(DATA))
    np.testing.assert_allclose(gradient, 0, atol=1e-12)
    assert np.abs(jax.grad(lambda x: expected_loss(x, 0.1, REFERENCE))(jnp.log(REFERENCE))).max() > 1e-3


@pytest.mark.parametrize("every", [1, 3])
def test_the_generator_becomes_its_own_reference_at_first_and_then_at_every_so_many_steps(every: int) -> None:
    estimator = spin(refresh_every=every)
    state, renewed = estimator.init(4), []
    for _ in range(7):
        state, renew = estimator.refresh(state)
        renewed.append(bool(renew))
    assert renewed == [step % every == 0 for step in range(7)]


def test_the_defaults_are_the_documented_ones() -> None:
    loss, _ = spin().loss(*(jnp.asarray(x) for x in (REAL, REFERENCE_REAL, WRITTEN, REFERENCE_WRITTEN)))
    assert float(loss) == pytest.approx(np.log1p(np.exp(-0.1 * MARGINS)).mean(), rel=1e-12)
    estimator = spin()
    state, renewed = estimator.init(4), []
    for _ in range(201):
        state, renew = estimator.refresh(state)
        renewed.append(bool(renew))
    assert np.flatnonzero(renewed).tolist() == [0, 100, 200]
