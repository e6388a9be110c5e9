"""The convolution over tokens, with its gradients written as convolutions of the same form.

XLA's CPU backend has a fast convolution for one order of dimensions. It brings others into that order in the outermost
computation alone, so a gradient taken inside a loop, as that of the discriminator's further updates of a step, would
run twenty times slower.
"""

import jax

from gptgan_jax.types import Array


@jax.custom_vjp
def causal_convolution(x: Array, kernel: Array) -> Array:
    """Windows that end at each token, with zeros before the first: [B, S, E], [W, E, F] -> [B, S, F]."""
    return _convolution(x, kernel, kernel.shape[0] - 1, 0)


def causal_convolution_from(x: Array, kernel: Array, start: int) -> Array:
    """Of the same windows those that end at token `start` or later: [B, S, E], [W, E, F] -> [B, S - start, F]."""
    before = kernel.shape[0] - 1
    return _convolution(x[:, max(0, start - before) :], kernel, max(0, before - start), 0)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return causal_convolution(x, kernel), (x, kernel)


def _backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = kept
    before = kernel.shape[0] - 1
    of_x = _convolution(gradient, kernel[::-1].swapaxes(1, 2), 0, before)
    # Rows take the place of channels: [E, S, B] with windows [S, B, F] -> [E, W, F].
    of_kernel = _convolution(x.transpose(2, 1, 0), gradient.swapaxes(0, 1), before, 0)
    return of_x, of_kernel.swapaxes(0, 1)


causal_convolution.defvjp(_forward, _backward)


def _convolution(x: Array, kernel: Array, before: int, after: int) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, window_strides=(1,), padding=[(before, after)], dimension_numbers=("NHC", "HIO", "NHC")
    )
