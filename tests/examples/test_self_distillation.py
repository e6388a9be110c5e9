"""examples/self_distillation.py: a constant energy chooses nothing, and each model and difference has its row."""

import importlib
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import gptgan_jax as gg

EXAMPLES = Path(__file__).parents[2] / "examples"
CONTROL = "control: round 1, constant energy"
MODELS = ["likelihood", "likelihood, resampled", "round 1", CONTROL, "round 1, resampled", "continued likelihood"]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("self_distillation")


def chance_of(tokens: np.ndarray, probabilities: np.ndarray) -> float:
    """p-value by chi-square of tokens [N] under their probabilities [V], in 20 classes from rare to frequent."""
    classes = np.argsort(np.argsort(probabilities)) * 20 // len(probabilities)
    expected = len(tokens) * np.bincount(classes, probabilities / probabilities.sum())
    return stats.chisquare(np.bincount(classes[tokens], minlength=20), expected).pvalue


@pytest.mark.exhaustive
def test_by_a_constant_energy_the_chosen_texts_are_distributed_as_the_generators(example: Any) -> None:
    shared = sys.modules["small_generator"]
    batch = gg.unconditional_batch(np.arange(shared.VOCABULARY.size)[:, None], shared.VOCABULARY)
    params = jax.tree.map(lambda x: 6 * x, shared.GENERATOR.init(jax.random.key(0), batch))  # far from uniform
    first = np.exp(np.asarray(gg.log_probs(shared.GENERATOR, params, batch), np.float64))[:, 0]
    assert first.sum() == pytest.approx(1, abs=1e-4)
    scorer = shared.DISCRIMINATOR.init(jax.random.key(1), batch)

    def drawn(scorer: Any, key: int) -> np.ndarray:
        texts = example.drawn(params, scorer, jax.random.key(key), count=900, at_once=500)
        assert texts.shape == (900, shared.LENGTH)
        return texts

    def energies(texts: np.ndarray) -> np.ndarray:
        return np.asarray(shared.energy(scorer, texts, shared.batch_of(texts).target_mask))

    own = drawn(None, 2)
    spread = energies(own).std()
    scorer = scorer | {"head": jax.tree.map(lambda x: x / spread, scorer["head"])}  # a nat from text to text
    without = jax.tree.map(jnp.zeros_like, scorer)
    chosen = drawn(without, 3)
    for texts in (own, chosen):  # the control, which takes the first one; 8 candidates, all equally good
        assert chance_of(texts[:, 0], first) > 0.001
    assert stats.ks_2samp(energies(chosen), energies(own)).pvalue > 0.001
    assert stats.ks_2samp(energies(drawn(scorer, 3)), energies(own)).pvalue < 1e-9  # one that is not constant chooses


def test_a_share_that_is_none_is_refused(
    example: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["self_distillation.py", "--real", "2"])
    with pytest.raises(SystemExit, match="2"):
        example.main()
    assert "--real should be from 0 to 1" in capsys.readouterr().err


def test_differences_are_those_of_neighbouring_rounds_and_of_the_last_one(example: Any) -> None:
    assert [*example.compared(2)] == [
        ("round 1", "likelihood"),
        ("round 2", "round 1"),
        ("round 1, resampled", "likelihood, resampled"),
        ("round 2, resampled", "round 1, resampled"),
        ("round 2", "likelihood"),
        ("round 2", "likelihood, resampled"),
        ("round 2", "continued likelihood"),
        ("round 2", "control: round 2, constant energy"),
    ]


def test_it_is_a_short_script() -> None:
    for name in ("self_distillation.py", "small_generator.py"):
        assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.exhaustive
def test_it_runs_to_its_end_and_its_tables_have_each_row(
    example: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--seeds", "1", "2", "--rounds", "1", "--steps", "20", "4", "2", "3", "--texts", "50", "--count", "40"]
    monkeypatch.setattr(sys, "argv", ["self_distillation.py", *tiny, "--real", "0.5"])
    example.main()
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]
    first = rows.index("|", 1)  # the second table's head
    assert rows[1:first] == MODELS
    assert rows[first + 1 :] == [
        "round 1 − likelihood",
        "round 1, resampled − likelihood, resampled",
        "round 1 − likelihood, resampled",
        "round 1 − continued likelihood",
        f"round 1 − {CONTROL}",
    ]
    for seed in (1, 2):
        assert sum(line.startswith(f"seed {seed}  ") for line in lines) == len(MODELS) + 1  # and one of the time
