"""The mask of causal attention: no row is empty, and none sees what comes after it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptgan_jax.layers.attention import attend, causal_mask, mask_of

# Padded on the left, on the right, on both sides, not at all, and nothing but padding.
FILLED = jnp.array([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)


@pytest.mark.parametrize("length", [1, 3, 5])
def test_a_token_sees_the_filled_slots_up_to_itself_and_padding_sees_itself_too(length: int) -> None:
    mask = np.asarray(causal_mask(FILLED, length))
    for row, position, slot in np.ndindex(mask.shape):
        seen = slot <= position and (bool(FILLED[row, slot]) or slot == position)
        assert mask[row, position, slot] == seen, (row, position, slot)


def test_no_row_is_empty_and_none_sees_the_future() -> None:
    mask = np.asarray(mask_of(FILLED, causal=True))
    assert mask.any(axis=2).all()
    assert not (mask & np.triu(np.ones((5, 5), bool), 1)).any()


def test_what_padding_attends_to_does_not_change_with_what_comes_after_it() -> None:
    """In an empty row the softmax would be even over all slots, the future included."""
    rng = np.random.default_rng(0)
    queries, keys, values = (jnp.asarray(rng.normal(size=(5, 5, 1, 1, 4)), jnp.float32) for _ in range(3))
    mask = causal_mask(FILLED, 5)

    def mixed(values: jax.Array) -> jax.Array:
        return attend(queries, keys[:, :, :, 0].swapaxes(1, 2), values[:, :, :, 0].swapaxes(1, 2), mask)

    before, after = mixed(values), mixed(values.at[:, 3:].add(7.0))
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert np.isfinite(before).all()
    assert np.abs(before[:, 3:] - after[:, 3:]).max() > 1
