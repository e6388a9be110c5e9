"""Spectral normalisation against NumPy's singular value decomposition, and what it does to a discriminator's scores."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import VOCABULARY, assert_trees_close, assert_trees_differ, batch_of, random_params

from gptgan_jax import (
    CnnConfig,
    Discriminator,
    LinearConfig,
    MlpConfig,
    TransformerDiscriminatorConfig,
    build_discriminator,
)
from gptgan_jax.layers.spectral_norm import spectrally_normalised
from gptgan_jax.models.discriminator_networks import DiscriminatorConfig

KINDS: dict[str, DiscriminatorConfig] = {
    "linear": LinearConfig(embedding=4, spectral_norm=True),
    "mlp": MlpConfig(embedding=4, hidden=6, layers=2, spectral_norm=True),
    "cnn": CnnConfig(embedding=4, widths=(1, 3), filters=5, spectral_norm=True),
    "transformer": TransformerDiscriminatorConfig(layers=1, width=8, heads=2, max_positions=24, spectral_norm=True),
    "scanned": TransformerDiscriminatorConfig(
        layers=2, width=8, heads=2, activation="swiglu", scan_layers=True, spectral_norm=True
    ),
}


def is_kernel(path: tuple[Any, ...]) -> bool:
    return path[-1].key == "kernel"


def largest(kernel: Any) -> np.ndarray:
    """The largest singular value of each matrix."""
    return np.linalg.svd(np.asarray(kernel, np.float64), compute_uv=False)[..., 0]


def build(config: DiscriminatorConfig) -> tuple[Discriminator, Any]:
    discriminator = build_discriminator(config, VOCABULARY)
    return discriminator, random_params(jax.eval_shape(discriminator.init, jax.random.key(0), batch_of()))


@pytest.mark.parametrize("shape", [(5, 5), (64, 48), (16, 96), (128, 128), (40, 1), (1, 7), (3, 12, 30)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25, "columns", "rows"])
def test_the_largest_singular_value_becomes_1(shape: tuple[int, ...], scale: float | str) -> None:
    kernel = np.random.default_rng(0).normal(size=shape)
    if scale == "columns":
        kernel = kernel * np.logspace(-4, 4, shape[-1])
    elif scale == "rows":
        kernel = kernel * np.logspace(4, -4, shape[-2])[:, None]
    else:
        kernel = kernel * scale
    normalised = jax.jit(spectrally_normalised)({"kernel": jnp.asarray(kernel, jnp.float32)})["kernel"]
    assert normalised.shape == shape
    assert (largest(normalised) > 1 - 1e-4).all()  # the estimate comes from below
    assert (largest(normalised) < 1.02).all()
    expected = kernel / largest(kernel)[..., None, None]
    np.testing.assert_allclose(normalised, expected, rtol=0.02, atol=1e-6)


def test_matrices_alone_are_divided_each_by_its_own_norm() -> None:
    rng = np.random.default_rng(0)
    shapes = {"kernel": (2, 3, 4), "bias": (4,), "scale": (4,), "table": (7, 4), "positions": (5, 4)}
    params = {"layer": {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}}
    params["layer"]["kernel"] = params["layer"]["kernel"] * jnp.array([1.0, 5.0])[:, None, None]
    normalised = jax.jit(spectrally_normalised)(params)
    np.testing.assert_allclose(largest(normalised["layer"]["kernel"]), [1, 1], rtol=1e-3)
    for name in shapes:
        if name != "kernel":
            np.testing.assert_array_equal(normalised["layer"][name], params["layer"][name])


def test_a_matrix_of_zeros_stays_zero_and_its_gradient_finite() -> None:
    def total(kernel: jax.Array) -> jax.Array:
        return spectrally_normalised({"kernel": kernel})["kernel"].sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(jnp.zeros((3, 4)))
    assert float(value) == 0
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("shape", [(4, 3), (3, 5), (2, 3, 3)], ids=str)
def test_the_gradient_is_that_of_the_matrix_over_its_norm(shape: tuple[int, ...]) -> None:
    kernel, proportions = np.random.default_rng(0).normal(size=(2, *shape))

    def by_hand(kernel: np.ndarray) -> float:
        return float((proportions * kernel / largest(kernel)[..., None, None]).sum())

    expected, step = np.zeros(shape), 1e-6
    for index in np.ndindex(*shape):
        moved = np.zeros(shape)
        moved[index] = step
        expected[index] = (by_hand(kernel + moved) - by_hand(kernel - moved)) / (2 * step)
    with jax.enable_x64(True):
        gradient = jax.grad(
            lambda x: (spectrally_normalised({"kernel": x}, doublings=12)["kernel"] * proportions).sum()
        )(jnp.asarray(kernel))
        assert gradient.dtype == jnp.float64
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_plain_network_with_each_matrix_over_its_norm(kind: str) -> None:
    discriminator, params = build(KINDS[kind])
    plain, _ = build(dataclasses.replace(KINDS[kind], spectral_norm=False))
    divided = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.asarray(x / largest(x)[..., None, None], jnp.float32) if is_kernel(path) else x, params
    )
    scores, key = jax.jit(discriminator.scores), jax.random.key(0)
    assert_trees_close(scores(params, batch_of()), jax.jit(plain.scores)(divided, batch_of()), rtol=1e-3, atol=1e-3)
    assert_trees_differ(scores(params, batch_of()), jax.jit(plain.scores)(params, batch_of()))
    assert_trees_close(discriminator.init(key, batch_of()), plain.init(key, batch_of()), rtol=0, atol=0)
    embeddings = discriminator.embed(params, batch_of())
    np.testing.assert_array_equal(embeddings, plain.embed(params, batch_of()))
    assert_trees_close(
        jax.jit(discriminator.judge)(params, embeddings, batch_of()), scores(params, batch_of()), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_ten_times_as_large_changes_no_score(kind: str) -> None:
    discriminator, params = build(KINDS[kind])
    larger = jax.tree_util.tree_map_with_path(lambda path, x: 10 * x if is_kernel(path) else x, params)
    scores = jax.jit(discriminator.scores)
    assert_trees_close(scores(larger, batch_of()), scores(params, batch_of()), rtol=1e-4, atol=1e-5)


def test_the_linear_score_moves_by_at_most_as_much_as_the_mean_embedding() -> None:
    discriminator, params = build(KINDS["linear"])
    batch = batch_of()
    lengths = np.asarray(batch.prompt_mask.sum(axis=1) + batch.target_mask.sum(axis=1))
    gradient = jax.grad(lambda x: discriminator.judge(params, x, batch).sequence.sum())(
        discriminator.embed(params, batch)
    )
    np.testing.assert_allclose(np.linalg.norm(gradient, axis=-1).max(axis=1), 1 / lengths, rtol=1e-5)


def test_a_trunk_from_the_generator_cannot_be_normalised() -> None:
    with pytest.raises(ValueError, match="no longer be the generator's"):
        TransformerDiscriminatorConfig(from_generator=True, spectral_norm=True)
    assert not TransformerDiscriminatorConfig(from_generator=True).spectral_norm
