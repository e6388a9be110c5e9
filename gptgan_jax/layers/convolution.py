"""The convolution over tokens, with its gradients written as convolutions of the same form, and the maxima of its
filters over the ends of texts with a common beginning.

XLA's CPU backend has a fast convolution for one order of dimensions. It brings other orders into that one only in the
outermost computation, so a gradient inside a loop, such as that of further discriminator updates in a step, would run
twenty times slower.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gptgan_jax.types import Array


@jax.custom_vjp
def causal_convolution(x: Array, kernel: Array) -> Array:
    """Windows that end at each token, with zeros before the first: [B, S, E], [W, E, F] -> [B, S, F]."""
    return _convolution(x, kernel, kernel.shape[0] - 1, 0)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return causal_convolution(x, kernel), (x, kernel)


def _backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = kept
    before = kernel.shape[0] - 1
    of_x = _convolution(gradient, kernel[::-1].swapaxes(1, 2), 0, before)
    # Rows serve as channels: [E, S, B] with windows [S, B, F] -> [E, W, F].
    of_kernel = _convolution(x.transpose(2, 1, 0), gradient.swapaxes(0, 1), before, 0)
    return of_x, of_kernel.swapaxes(0, 1)


causal_convolution.defvjp(_forward, _backward)


def whole_windows(x: Array, kernel: Array) -> Array:
    """Windows that lie inside x only: [B, S, E], [W, E, F] -> [B, S - W + 1, F]. A single one is a plain product."""
    if x.shape[1] == kernel.shape[0]:
        return (x.reshape(x.shape[0], -1) @ kernel.reshape(-1, kernel.shape[2]))[:, None]
    return _convolution(x, kernel, 0, 0)


def largest_in_ends(x: Array, mask: Array, kernels: Sequence[Array], start: int, count: int) -> list[Array]:
    """Each filter's largest value over the windows that end at token `start` or later, inside the mask.

    A window across `start` is a sum of two products: its part before `start` is computed once for `count` texts, and no
    zeros are multiplied. Products of the same tokens are merged into one for all widths.

    Args:
        x: [B, S, E], 0 outside the mask; of B texts, `count` neighbours have their first `start` tokens in common.
        mask: bool [B, S].
        kernels: [W, E, F] each, W differing.

    Returns:
        [B, F] for each kernel; -inf if no token at `start` or later is inside the mask.
    """
    begun = x.reshape(-1, count, *x.shape[1:])[:, 0, :start]
    end, inside = x[:, start:], mask[:, start:, None]
    length, widths = end.shape[1], [kernel.shape[0] for kernel in kernels]
    # By kernel and by how many tokens at `start` or later the window has.
    before: dict[tuple[int, int], Array] = {}
    after: dict[tuple[int, int], Array] = {}
    for n in range(1, max(widths)):
        seen = min(n, start)
        weights = {i: kernels[i][n - seen : n] for i, width in enumerate(widths) if 0 < width - n <= length}
        before |= {(i, widths[i] - n): one for i, one in _products(begun[:, start - seen :], weights).items()}
        weights = {i: kernels[i][-n:] for i, width in enumerate(widths) if n < width and n <= length}
        after |= {(i, n): one for i, one in _products(end[:, :n], weights).items()}
    found = []
    for i, (kernel, width) in enumerate(zip(kernels, widths, strict=True)):
        largest = jnp.full((x.shape[0], kernel.shape[2]), -jnp.inf, x.dtype)
        if width <= length:
            whole = _convolution(end, kernel, 0, 0)
            largest = jnp.where(inside[:, width - 1 :], whole, -jnp.inf).max(axis=1)
        for n in range(1, min(width, length + 1)):
            across = jnp.repeat(before[i, n], count, axis=0) + after[i, n]
            largest = jnp.maximum(largest, jnp.where(inside[:, n - 1], across, -jnp.inf))
        found.append(largest)
    return found


def _products(x: Array, kernels: dict[int, Array]) -> dict[int, Array]:
    """All products of the same tokens in one: [B, N, E] by [N, E, F] each -> [B, F] each."""
    if not kernels:
        return {}
    weights = [kernel.reshape(-1, kernel.shape[2]) for kernel in kernels.values()]
    products = x.reshape(x.shape[0], -1) @ jnp.concatenate(weights, axis=1)
    ends = np.cumsum([one.shape[1] for one in weights])[:-1]
    return dict(zip(kernels, jnp.split(products, ends, axis=1), strict=True))


def _convolution(x: Array, kernel: Array, before: int, after: int) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, window_strides=(1,), padding=[(before, after)], dimension_numbers=("NHC", "HIO", "NHC")
    )
