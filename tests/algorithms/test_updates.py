"""Which texts the updates of a discriminator take: rows of the batch, and what a replay remembers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import VOCABULARY, assert_trees_close, assert_trees_differ, batch_of, rows

import gptgan_jax as gg
from gptgan_jax.algorithms.gan import _slices
from gptgan_jax.algorithms.mixing import empty_replay, remember

GENERATOR = gg.build_generator(gg.LstmConfig(embedding=4, hidden=4), VOCABULARY)
DISCRIMINATOR = gg.build_discriminator(gg.LinearConfig(embedding=4), VOCABULARY)


def numbered(numbers: Any) -> gg.Batch:
    """Texts in whose arrays their number stands."""
    numbers = jnp.asarray(numbers, jnp.int32)
    return batch_of((2,) * len(numbers), (4,) * len(numbers)).replace(
        target=jnp.broadcast_to(numbers[:, None], (len(numbers), 4)), label=numbers
    )


@pytest.mark.cases(1)
@pytest.mark.parametrize(("count", "each"), [(2, 3), (3, 2), (4, 1)])
def test_the_first_update_takes_every_nth_row_and_the_others_take_the_rest_once(count: int, each: int) -> None:
    first, others = _slices(numbered(range(count * each)), count)
    assert others is not None
    expected = np.arange(count * each).reshape(each, count).T
    for found, name in ((lambda x: x, "label"), (lambda x: x[..., 0], "target")):
        np.testing.assert_array_equal(found(getattr(first, name)), expected[0])
        np.testing.assert_array_equal(found(getattr(others, name)), expected[1:])


def test_one_update_takes_all_rows_in_their_order() -> None:
    first, others = _slices(numbered(range(4)), 1)
    np.testing.assert_array_equal(first.label, range(4))
    assert others is None


@pytest.mark.thorough
@pytest.mark.parametrize("count", [2, 3])
def test_a_step_with_more_updates_begins_as_the_step_on_every_nth_row(count: int) -> None:
    """So the first update of the discriminator, all metrics and the generator's update are of those rows."""
    batch = batch_of((2, 3, 1, 2, 3, 1), (4, 2, 3, 4, 1, 4))
    fast = {"discriminator_optimizer": optax.adam(0.1)}
    one, more = (gg.gan_from(GENERATOR, DISCRIMINATOR, discriminator_updates=n, **fast) for n in (1, count))
    state = one.init(jax.random.key(0), batch)
    after, metrics = jax.jit(more.adversarial_step)(state, batch)
    for first in range(count):
        alone, expected = jax.jit(one.adversarial_step)(state, rows(batch, slice(first, None, count)))
        same = all(np.allclose(metrics[name], expected[name], rtol=1e-5, atol=1e-6) for name in expected)
        assert same == (first == 0)
        if first == 0:
            assert_trees_close(after.generator.params, alone.generator.params)
            assert_trees_differ(after.discriminator.params, alone.discriminator.params)


@pytest.mark.cases(2)
@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("each", [1, 2, 5])
def test_a_replay_holds_the_latest_texts(size: int, each: int) -> None:
    """Also if a step gives more texts than there is room for."""
    replay = empty_replay(numbered([0]), size)
    for step in range(6):
        replay = remember(replay, numbered(range(1 + step * each, 1 + (step + 1) * each)))
        written = (step + 1) * each
        held = sorted(int(x) for x in replay.texts.label if x)
        assert held == list(range(max(1, written - size + 1), written + 1))
        np.testing.assert_array_equal(replay.texts.target[:, 0], replay.texts.label)
        assert int(replay.written) == written


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("estimator", [gg.grpo(3), pytest.param(gg.grpo(3, minibatches=2), marks=pytest.mark.thorough)])
def test_reading_a_prompt_once_for_its_texts_changes_no_step(estimator: gg.PolicyGradient) -> None:
    sizes: dict[str, Any] = {"layers": 1, "width": 8, "heads": 2, "max_positions": 16}
    generator = gg.build_generator(gg.TransformerConfig(**sizes, positions="rotary"), VOCABULARY)
    discriminator = gg.build_discriminator(gg.TransformerDiscriminatorConfig(**sizes), VOCABULARY)
    apart = generator._replace(branch=None), discriminator._replace(shares_prompts=False)
    batch = batch_of(prompts=(2, 3, 1, 2), targets=(4, 2, 3, 4))
    after = []
    for players in ((generator, discriminator), apart):
        rates: dict[str, Any] = {f"{player}_optimizer": optax.sgd(0.1) for player in ("generator", "discriminator")}
        gan = gg.gan_from(*players, estimator=estimator, kl_weight=0.3, r2_weight=0.1, **rates)
        state = gan.init(jax.random.key(0), batch)
        after.append(jax.jit(gan.adversarial_step)(state, batch))
    assert_trees_close(after[0], after[1], rtol=1e-4, atol=1e-5)
