"""Causal convolution against sums over windows in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptgan_jax.layers.convolution import causal_convolution, largest_in_ends

ROWS, LENGTH, CHANNELS, FILTERS = 3, 5, 2, 4


def _windows(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    width = kernel.shape[0]
    filled = np.pad(x, [(0, 0), (width - 1, 0), (0, 0)])
    return sum(filled[:, i : i + x.shape[1]] @ kernel[i] for i in range(width))


def _inputs(width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(width)
    shapes = (ROWS, LENGTH, CHANNELS), (width, CHANNELS, FILTERS), (ROWS, LENGTH, FILTERS)
    x, kernel, weights = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return x, kernel, weights


@pytest.mark.parametrize("width", [1, 3, 5, 8])
def test_each_output_is_the_window_that_ends_there(width: int) -> None:
    x, kernel, _ = _inputs(width)
    np.testing.assert_allclose(causal_convolution(x, kernel), _windows(x, kernel), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("width", [1, 3, 8])
def test_gradients_are_differences_of_the_windows_in_float64(width: int) -> None:
    x, kernel, weights = _inputs(width)
    found = jax.grad(lambda x, kernel: (weights * causal_convolution(x, kernel)).sum(), (0, 1))(x, kernel)
    exact = x.astype(np.float64), kernel.astype(np.float64)
    for which in (0, 1):
        for place in np.ndindex(exact[which].shape):
            moved = [part.copy() for part in exact]
            moved[which][place] += 1
            difference = (weights * (_windows(*moved) - _windows(*exact))).sum()  # linear in each
            np.testing.assert_allclose(found[which][place], difference, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_gradient_penalty_is_that_of_xlas_own_convolution() -> None:
    x, kernel, weights = _inputs(3)

    def own(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, kernel, (1,), [(2, 0)], dimension_numbers=("NHC", "HIO", "NHC"))

    def penalty_of(convolution: object) -> jax.Array:
        def penalty(kernel: jax.Array) -> jax.Array:
            gradient = jax.grad(lambda x: (weights * jnp.tanh(convolution(x, kernel))).sum())(x)  # type: ignore[operator]
            return jnp.square(gradient).sum()

        return jax.grad(penalty)(kernel)

    np.testing.assert_allclose(penalty_of(causal_convolution), penalty_of(own), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("start", range(1, LENGTH))
def test_the_largest_in_ends_is_that_of_the_windows_that_end_there(start: int) -> None:
    count, widths = 3, (1, 2, 4, 5, 8)
    rng = np.random.default_rng(start)
    begun = np.repeat(rng.normal(size=(ROWS, start, CHANNELS)), count, axis=0)
    x = np.concatenate([begun, rng.normal(size=(ROWS * count, LENGTH - start, CHANNELS))], axis=1).astype(np.float32)
    lengths = rng.integers(start, LENGTH + 1, ROWS * count)
    lengths[:count] = 1  # ended with the shared beginning, or inside it
    mask = np.arange(LENGTH) < lengths[:, None]
    x = np.where(mask[..., None], x, 0)
    kernels = [rng.normal(size=(width, CHANNELS, FILTERS)).astype(np.float32) for width in widths]
    found = jax.jit(largest_in_ends, static_argnums=(3, 4))(x, mask, kernels, start, count)
    for kernel, largest in zip(kernels, found, strict=True):
        windows = np.where(mask[..., None], _windows(x.astype(np.float64), kernel), -np.inf)
        np.testing.assert_allclose(largest, windows[:, start:].max(axis=1), rtol=2e-5, atol=2e-5)
