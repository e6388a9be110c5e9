"""A run or a model as functions and parameters, and a generator saved for others."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close
from tiny import train_tiny

import gptgan_jax as gg
from gptgan_jax.errors import UserError
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.trained import load_params, load_writer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tmp_path_factory.mktemp("run"), {"continued.steps": 0})


@pytest.mark.thorough
def test_a_run_has_what_its_best_checkpoint_holds_and_its_discriminator(run: Path) -> None:
    loaded, folder = gg.load(run), RunFolder(run)
    expected, _ = load_params(folder, load_writer(folder))
    assert_trees_close(loaded.params, expected, rtol=0, atol=0)
    assert loaded.discriminator is not None
    batch = gg.unconditional_batch(jnp.full((2, 6), 4), loaded.generator.vocabulary)
    scores = loaded.discriminator.scores(loaded.discriminator_params, batch)
    assert np.isfinite(scores.sequence).all()
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("two cats run")) == "two cats run"


def test_a_likelihood_checkpoint_comes_with_the_discriminator_of_a_later_phase(run: Path) -> None:
    likelihood, best = gg.load(run, "likelihood"), gg.load(run, "adversarial")
    assert_trees_close(likelihood.discriminator_params, best.discriminator_params, rtol=0, atol=0)
    leaves = zip(jax.tree.leaves(likelihood.params), jax.tree.leaves(best.params), strict=True)
    assert any((a != b).any() for a, b in leaves)


def test_a_saved_generator_is_read_back_with_the_same_likelihoods(run: Path, tmp_path: Path) -> None:
    loaded = gg.load(run)
    gg.save(tmp_path / "model", loaded.generator, loaded.params, loaded.tokenizer)
    again = gg.load(f"hf:{tmp_path / 'model'}")
    ids = loaded.tokenizer.encode_batch(["two cats run", "two dogs eat"])
    assert again.tokenizer.encode_batch(["two cats run", "two dogs eat"]) == ids
    batch = gg.unconditional_batch(jnp.asarray(ids), loaded.generator.vocabulary)
    mine, theirs = (gg.log_probs(one.generator, one.params, batch) for one in (loaded, again))
    np.testing.assert_allclose(theirs, mine, rtol=1e-5, atol=1e-6)
    assert again.discriminator is None
    with pytest.raises(UserError, match="exists; name a new folder"):
        gg.save(tmp_path / "model", loaded.generator, loaded.params, loaded.tokenizer)


def test_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        gg.load(tmp_path)
    assert "\n" not in str(raised.value)
