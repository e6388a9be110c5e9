"""Optimisers: what the schedules give at their ends, and what clipping, decay and accumulation do to an update."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gptgan_jax.objectives.optimizers import (
    OptimizerConfig,
    build_optimizer,
    learning_count,
    parameter_paths,
    unmatched,
)

SGD: dict[str, Any] = {"kind": "sgd", "learning_rate": 2.0, "clip_norm": None}


def rates(steps: int, count: int, **fields: Any) -> list[float]:
    """The learning rate of each update of a phase: what plain SGD does with a gradient of 1."""
    optimizer = build_optimizer(OptimizerConfig(**(SGD | fields)), steps)
    params = jnp.zeros(())
    state, found = optimizer.init(params), []
    for _ in range(count):
        updates, state = optimizer.update(jnp.ones(()), state, params)
        found.append(-float(updates))
    return found


def test_a_constant_schedule_stays_at_the_peak() -> None:
    assert rates(4, 6, schedule="constant") == [2.0] * 6


def test_a_linear_schedule_falls_from_the_peak_to_the_final_fraction_and_stays() -> None:
    assert rates(4, 7, schedule="linear", final_fraction=0.25) == pytest.approx([2, 1.625, 1.25, 0.875, 0.5, 0.5, 0.5])


def test_a_cosine_schedule_falls_from_the_peak_to_the_final_fraction_and_stays() -> None:
    expected = [0.5 + 1.5 * (1 + np.cos(np.pi * min(i, 4) / 4)) / 2 for i in range(6)]
    assert rates(4, 6, schedule="cosine", final_fraction=0.25) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_warm_up_rises_in_equal_steps_to_the_peak_and_the_schedule_ends_with_the_phase(schedule: str) -> None:
    found = rates(10, 11, schedule=schedule, warmup_steps=3, final_fraction=0.25)
    assert found[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert found[10] == pytest.approx(2.0 if schedule == "constant" else 0.5)
    assert all(rate > 0 for rate in found)


def test_a_schedule_counts_updates_and_not_batches() -> None:
    found = rates(8, 10, schedule="linear", final_fraction=0.0, accumulate=2)
    assert found == pytest.approx([0, 2, 0, 1.5, 0, 1, 0, 0.5, 0, 0])


def test_clipping_shortens_a_long_gradient_over_all_parameters_together_and_leaves_a_short_one() -> None:
    optimizer = build_optimizer(OptimizerConfig(kind="sgd", learning_rate=1.0, clip_norm=2.0), 1)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    long, _ = optimizer.update({"a": jnp.array([3.0]), "b": jnp.array([4.0])}, optimizer.init(params), params)
    assert [float(long["a"][0]), float(long["b"][0])] == pytest.approx([-1.2, -1.6])
    short, _ = optimizer.update({"a": jnp.array([0.3]), "b": jnp.array([0.4])}, optimizer.init(params), params)
    assert [float(short["a"][0]), float(short["b"][0])] == pytest.approx([-0.3, -0.4])


def test_weight_decay_shrinks_matrices_by_rate_times_decay_and_nothing_else() -> None:
    optimizer = build_optimizer(OptimizerConfig(learning_rate=0.1, weight_decay=0.5), 1)
    params = {"kernel": jnp.full((2, 2), 4.0), "bias": jnp.full(2, 4.0)}
    nothing = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    updates, _ = optimizer.update(nothing, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], np.full((2, 2), -0.1 * 0.5 * 4.0), rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], [0, 0])


def test_adamw_by_hand_over_three_updates() -> None:
    config = OptimizerConfig(learning_rate=0.1, beta1=0.8, beta2=0.9, eps=1e-4, weight_decay=0.3, clip_norm=None)
    optimizer = build_optimizer(config, 3)
    value, first, second = np.full((1, 1), 2.0), 0.0, 0.0
    params = jnp.asarray(value, jnp.float32)
    state = optimizer.init(params)
    for i, gradient in enumerate([1.0, -3.0, 0.5], start=1):
        updates, state = optimizer.update(jnp.full((1, 1), gradient), state, params)
        params = optax.apply_updates(params, updates)
        first, second = 0.8 * first + 0.2 * gradient, 0.9 * second + 0.1 * gradient**2
        direction = first / (1 - 0.8**i) / (np.sqrt(second / (1 - 0.9**i)) + 1e-4)
        value = value - 0.1 * (direction + 0.3 * value)
        np.testing.assert_allclose(params, value, rtol=1e-5)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_accumulating_the_gradients_of_small_batches_equals_one_big_batch(kind: str) -> None:
    rng = np.random.default_rng(0)
    gradients = [jnp.asarray(rng.normal(size=(3, 2)), jnp.float32) for _ in range(4)]
    fields: dict[str, Any] = {"kind": kind, "learning_rate": 0.1, "clip_norm": 0.5, "schedule": "linear"}
    params = jnp.ones((3, 2))

    def after(batches: list[Any], accumulate: int) -> jnp.ndarray:
        optimizer = build_optimizer(OptimizerConfig(**fields, accumulate=accumulate), len(batches))
        moved, state = params, optimizer.init(params)
        for gradient in batches:
            updates, state = optimizer.update(gradient, state, moved)
            moved = optax.apply_updates(moved, updates)
        return moved

    big = [(gradients[0] + gradients[1]) / 2, (gradients[2] + gradients[3]) / 2]
    np.testing.assert_allclose(after(gradients, 2), after(big, 1), rtol=1e-5)
    assert np.abs(after(gradients, 1) - after(big, 1)).max() > 1e-3


def test_weight_decay_spares_the_biases_and_scales_of_scanned_layers() -> None:
    params = {
        "blocks": {"norm": {"scale": jnp.ones((3, 4))}, "up": {"kernel": jnp.ones((3, 4, 5)), "bias": jnp.ones((3, 5))}}
    }
    optimizer = build_optimizer(OptimizerConfig(weight_decay=0.1, clip_norm=None), 1)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    blocks = updates["blocks"]
    assert not blocks["norm"]["scale"].any()
    assert not blocks["up"]["bias"].any()
    assert blocks["up"]["kernel"].all()


# Compiles in half the time.
TREE = {
    "trunk": {
        "embedding": {"table": jnp.full((3, 2), 2.0)},
        "block_0": {"mlp": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 1.0)}},
        "block_1": {"mlp": {"kernel": jnp.full((2, 2), 4.0), "bias": jnp.full(2, 1.0)}},
    },
    "head": {"kernel": jnp.full((2, 1), 5.0)},
}


def moved(frozen: tuple[str, ...], params: Any = TREE, count: int = 2, **fields: Any) -> Any:
    """Parameters after so many batches, each leaf's gradient being 1."""
    optimizer = build_optimizer(OptimizerConfig(**({"learning_rate": 0.1} | fields), frozen=frozen), count)

    @jax.jit
    def run(params: Any) -> Any:
        state = optimizer.init(params)
        ones = jax.tree.map(jnp.ones_like, params)
        for _ in range(count):
            updates, state = optimizer.update(ones, state, params)
            params = optax.apply_updates(params, updates)
        return params

    return run(params)


def paths_that_moved(params: Any, start: Any = TREE) -> set[str]:
    pairs = zip(parameter_paths(params), jax.tree.leaves(params), jax.tree.leaves(start), strict=True)
    return {path for path, a, b in pairs if (np.asarray(a) != np.asarray(b)).any()}


ALL_PATHS = {
    "trunk/embedding/table",
    "trunk/block_0/mlp/kernel",
    "trunk/block_0/mlp/bias",
    "trunk/block_1/mlp/kernel",
    "trunk/block_1/mlp/bias",
    "head/kernel",
}


def test_parameters_are_named_by_their_paths() -> None:
    assert set(parameter_paths(TREE)) == ALL_PATHS
    assert len(parameter_paths(TREE)) == 6


@pytest.mark.parametrize(
    ("frozen", "still"),
    [
        ((), set()),
        (("head/kernel",), {"head/kernel"}),
        (("trunk/embedding/*",), {"trunk/embedding/table"}),
        (("trunk/block_0/*", "head/*"), {"trunk/block_0/mlp/kernel", "trunk/block_0/mlp/bias", "head/kernel"}),
        (("*/kernel",), {"trunk/block_0/mlp/kernel", "trunk/block_1/mlp/kernel", "head/kernel"}),
        (("kernel", "trunk", "Head/*", "trunk/block_?"), set()),
        (("*",), ALL_PATHS),
    ],
)
@pytest.mark.parametrize(
    "fields",
    [{"weight_decay": 0.3}, {"kind": "sgd"}, {"weight_decay": 0.3, "accumulate": 2, "warmup_steps": 1}],
    ids=["adamw", "sgd", "accumulated"],
)
def test_frozen_parameters_stay_bit_by_bit_and_all_others_move(
    frozen: tuple[str, ...], still: set[str], fields: dict[str, Any]
) -> None:
    assert paths_that_moved(moved(frozen, **fields)) == ALL_PATHS - still


@pytest.mark.parametrize("fields", [{"weight_decay": 0.3, "clip_norm": None}, {"weight_decay": 0.3, "accumulate": 2}])
def test_what_is_not_frozen_learns_as_if_the_rest_were_not_there(fields: dict[str, Any]) -> None:
    """Clipping included: the gradient of a frozen parameter does not count in the norm."""
    alone = moved((), {"head": TREE["head"]}, **fields)
    np.testing.assert_allclose(moved(("trunk/*",), **fields)["head"]["kernel"], alone["head"]["kernel"], rtol=1e-6)


def test_the_gradient_of_frozen_parameters_does_not_count_when_clipping() -> None:
    fields: dict[str, Any] = {"kind": "sgd", "learning_rate": 1.0, "clip_norm": 1.0, "count": 1}
    found = moved(("trunk/*",), **fields)["head"]["kernel"]
    np.testing.assert_allclose(found, 5 - 1 / np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("fields", [{}, {"accumulate": 2}, {"weight_decay": 0.1, "schedule": "cosine"}])
def test_the_optimiser_keeps_nothing_for_what_does_not_learn(fields: dict[str, Any]) -> None:
    """Neither moments nor accumulated gradients."""

    def kept(frozen: tuple[str, ...], learns: Any = None) -> list[tuple[int, ...]]:
        state = build_optimizer(OptimizerConfig(**fields, frozen=frozen), 4, learns).init(TREE)
        return sorted({x.shape for x in jax.tree.leaves(state) if x.ndim})

    assert kept(()) == [(2,), (2, 1), (2, 2), (3, 2)]
    assert kept(("trunk/*",)) == [(2, 1)]
    assert kept((), lambda path: path.startswith("head/")) == [(2, 1)]
    assert kept(("*/bias",), lambda path: path.startswith("trunk/block_0/")) == [(2, 2)]


def test_it_is_counted_what_learns() -> None:
    assert learning_count(TREE, ()) == 6 + 4 + 2 + 4 + 2 + 2
    assert learning_count(TREE, ("trunk/*",)) == 2
    assert learning_count(TREE, ("*/bias",), lambda path: path.startswith("trunk/block_0/")) == 4


def test_patterns_that_match_nothing_are_found() -> None:
    assert unmatched((), TREE) == []
    assert unmatched(("head/*", "trunk/embedding/table"), TREE) == []
    assert unmatched(("hed/*", "trunk/*", "kernel", "trunk/block_2/*"), TREE) == ["hed/*", "kernel", "trunk/block_2/*"]
