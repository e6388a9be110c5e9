"""The LSTM oracle: its likelihood is SeqGAN's formula, and it draws from exactly that distribution."""

import itertools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gptgan_jax.errors import UserError
from gptgan_jax.sources import oracle as module
from gptgan_jax.sources.oracle import (
    Oracle,
    init_oracle,
    load_oracle,
    oracle_log_probs,
    parameter_shapes,
    sample_oracle,
)

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def published() -> Oracle:
    folder = Path(os.environ.get("GPTGAN_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    path = folder / "oracle_lstm.npz"
    if not path.is_file():
        pytest.skip(f"the published oracle is not at {path}; GPTGAN_SHARED_DATA names its folder")
    return Oracle(load_oracle(path))


def log_probs_by_loop(params: dict, tokens: np.ndarray, start_token: int = 0) -> np.ndarray:
    """SeqGAN's equations in float64, one token at a time."""
    p = {name: np.asarray(array, np.float64) for name, array in params.items()}
    result = np.zeros(tokens.shape)
    for n, sequence in enumerate(tokens):
        c = h = np.zeros(p["W_input"].shape[0])
        previous = start_token
        for t, token in enumerate(sequence):
            x = p["embedding"][previous]
            a = {g: x @ p[f"W_{g}"] + h @ p[f"U_{g}"] + p[f"b_{g}"] for g in module.GATES}
            i, f, o = (1 / (1 + np.exp(-a[g])) for g in ("input", "forget", "output"))
            c = f * c + i * np.tanh(a["cell"])
            h = o * np.tanh(c)
            logits = h @ p["W_out"] + p["b_out"]
            result[n, t] = logits[token] - np.log(np.exp(logits).sum())
            previous = token
    return result


def test_published_oracle_scores_its_own_samples_at_5_75_nats_a_token(published: Oracle) -> None:
    tokens = published.sample(seed=0, count=1024, length=20)
    assert -published.log_prob(tokens).mean() / 20 == pytest.approx(5.75, abs=0.03)


def test_log_probs_equal_a_float64_loop(published: Oracle) -> None:
    tokens = published.sample(seed=1, count=4, length=20)
    expected = log_probs_by_loop(published.params, tokens)
    np.testing.assert_allclose(oracle_log_probs(published.params, tokens), expected, atol=1e-4)
    np.testing.assert_allclose(published.log_prob(tokens), expected.sum(axis=1), atol=2e-3)


def test_log_probs_of_a_drawn_oracle_with_another_start_token_equal_the_loop() -> None:
    params = init_oracle(seed=3, vocab_size=50, hidden=8)
    tokens = np.random.default_rng(0).integers(50, size=(5, 6))
    expected = log_probs_by_loop(params, tokens, start_token=7)
    np.testing.assert_allclose(oracle_log_probs(params, tokens, start_token=7), expected, atol=1e-5)
    assert not np.allclose(oracle_log_probs(params, tokens), expected, atol=1e-2)


def test_probabilities_of_all_sequences_sum_to_one_and_samples_follow_them() -> None:
    oracle = Oracle(init_oracle(seed=0, vocab_size=5, hidden=4))
    every = np.array(list(itertools.product(range(5), repeat=3)))
    probabilities = np.exp(oracle.log_prob(every))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)

    drawn = oracle.sample(seed=1, count=40_000, length=3)
    counts = np.bincount(drawn @ [25, 5, 1], minlength=125)
    assert chi_square_p(counts, probabilities) > 1e-3


def test_samples_of_a_vocabulary_of_many_blocks_follow_the_softmax() -> None:
    oracle = Oracle(init_oracle(seed=0, vocab_size=300, hidden=8))
    probabilities = np.exp(oracle.log_prob(np.arange(300)[:, None]))
    counts = np.bincount(oracle.sample(seed=2, count=60_000, length=1)[:, 0], minlength=300)
    assert chi_square_p(counts, probabilities) > 1e-3


def chi_square_p(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """p-value of the fit; cells that expect fewer than five draws are pooled."""
    expected = probabilities / probabilities.sum() * counts.sum()
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    predicted = np.append(expected[~rare], expected[rare].sum())
    return stats.chisquare(observed[predicted > 0], predicted[predicted > 0]).pvalue


def test_more_samples_of_a_key_continue_the_same_list() -> None:
    params = init_oracle(seed=0, vocab_size=20, hidden=4)
    few = sample_oracle(params, jax.random.key(5), count=3, length=4)
    many = sample_oracle(params, jax.random.key(5), count=module.CHUNK + 10, length=4)
    assert few.dtype == jnp.int32
    assert many.shape == (module.CHUNK + 10, 4)
    np.testing.assert_array_equal(many[:3], few)
    # Chunks draw from keys of their own.
    assert not np.array_equal(many[module.CHUNK :], many[:10])
    assert not np.array_equal(sample_oracle(params, jax.random.key(6), count=3, length=4), few)


def test_init_draws_every_array_from_the_standard_normal_by_the_seed() -> None:
    params = init_oracle(seed=0, vocab_size=400, hidden=32)
    assert {name: array.shape for name, array in params.items()} == parameter_shapes(400, 32)
    for name, array in params.items():
        if array.size > 1000:
            assert float(array.mean()) == pytest.approx(0, abs=0.12), name
            assert float(array.std()) == pytest.approx(1, abs=0.12), name
    again, other = init_oracle(0, 400, 32), init_oracle(1, 400, 32)
    assert all(np.array_equal(params[n], again[n]) and not np.array_equal(params[n], other[n]) for n in params)


def test_a_saved_oracle_loads_as_it_was(tmp_path: Path) -> None:
    params = init_oracle(seed=0, vocab_size=11, hidden=3)
    np.savez(tmp_path / "o.npz", **params)
    loaded = load_oracle(tmp_path / "o.npz")
    assert list(loaded) == list(params)
    assert all(np.array_equal(loaded[name], params[name]) for name in params)


def _without(arrays: dict, name: str) -> dict:
    return {n: a for n, a in arrays.items() if n != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: _without(_without(a, "W_out"), "b_cell"), r"lacks the arrays b_cell, W_out; an oracle has embed"),
        (lambda a: _without(a, "embedding"), r"array 'embedding' is missing"),
        (lambda a: a | {"embedding": np.zeros(3)}, r"array 'embedding' is of shape \(3,\)"),
        (lambda a: a | {"U_cell": np.zeros((3, 4))}, r"array 'U_cell' has shape \(3, 4\); it should be \(3, 3\)"),
        (lambda a: a | {"b_out": np.zeros(11, int)}, r"array 'b_out' \(int64\) should hold finite floats"),
        (lambda a: a | {"b_out": np.full(11, np.nan)}, r"array 'b_out' \(float64\) should hold finite floats"),
        (lambda a: a | {"b_out": np.array([{}], object)}, r"not an \.npz file of plain arrays"),
    ],
)
def test_a_wrong_npz_is_refused(tmp_path: Path, change, message: str) -> None:
    arrays = {name: np.asarray(array) for name, array in init_oracle(0, 11, 3).items()}
    np.savez(tmp_path / "o.npz", **change(arrays))
    with pytest.raises(UserError, match=message) as error:
        load_oracle(tmp_path / "o.npz")
    assert str(error.value).startswith(f"{tmp_path}/o.npz: ")
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_or_no_npz_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.npz: no such file"):
        load_oracle(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UserError, match=r"text\.npz: not an \.npz file"):
        load_oracle(tmp_path / "text.npz")


@pytest.mark.parametrize("tokens", [[[0, 11]], [[-1, 0]], [0, 1]])
def test_log_prob_refuses_ids_outside_the_vocabulary(tokens: list) -> None:
    with pytest.raises(ValueError, match=r"\[0, 11\)"):
        Oracle(init_oracle(0, 11, 3)).log_prob(np.array(tokens))
