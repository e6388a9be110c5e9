"""The sweep: every point of the grid for each generator, choosing and reporting on different texts."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tiny import tiny_experiment

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.data.batches import evaluation_batches
from gptgan_jax.evaluation.candidates import candidates
from gptgan_jax.evaluation.final import evaluate_run
from gptgan_jax.evaluation.results import Cell, Evaluation
from gptgan_jax.evaluation.subject import Subject
from gptgan_jax.evaluation.sweep import sweep_run
from gptgan_jax.generation.texts import Drawing
from gptgan_jax.metrics.estimates import REAL
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.scoring.held_out_likelihood import likelihood_of
from gptgan_jax.training.loop import train

pytestmark = pytest.mark.thorough  # a run and its grid; test_frontiers.py has the arithmetic

ORACLE = {
    "data.kind": "oracle",
    "data.vocab_size": 20,
    "data.hidden": 4,
    "data.max_length": 6,
    "data.train_size": 60,
    "data.valid_size": 50,
    "data.test_size": 40,
    "data.valid_fraction": None,
    "data.test_fraction": None,
    "evaluation.sweep.temperatures": [0.5, 1.0],
}


def silently(line: str) -> None:
    """Takes no notice of a line."""


class Swept(NamedTuple):
    folder: RunFolder
    evaluation: Evaluation


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    experiment, folder = tiny_experiment(tmp_path_factory.mktemp("sweep"), ORACLE)
    train(experiment, folder, silently)
    evaluate_run(folder, silently, thorough=False)
    return Swept(folder, sweep_run(folder, silently))


def cells(swept: Swept) -> list[Cell]:
    assert swept.evaluation.sweep is not None
    return swept.evaluation.sweep.cells


def test_each_generator_is_swept_over_one_grid_and_real_text_stands_beside(swept: Swept) -> None:
    points = [(cell.column, cell.temperature, cell.top_p) for cell in cells(swept)]
    grid = [(t, p) for p in (1.0, 0.8) for t in (0.5, 1.0)]
    columns = ("likelihood", "continued", "adversarial")
    assert points == [(column, t, p) for column in columns for t, p in grid] + [(REAL, 1.0, 1.0)]


def test_every_point_has_every_figure_and_none_is_undefined_by_mistake(swept: Swept) -> None:
    for cell in cells(swept):
        assert cell.valid.keys() == cell.test.keys() == cells(swept)[0].test.keys()
        for name, estimate in (cell.valid | cell.test).items():
            assert estimate.value is not None, (cell.column, name)
            assert not np.isnan(estimate.value)
    signatures = swept.evaluation.sweep.signatures
    assert signatures.keys() == cells(swept)[0].test.keys()
    assert all(signatures.values())
    for axes in swept.evaluation.sweep.axes:
        assert {axes.quality, axes.diversity} <= signatures.keys()
    assert swept.evaluation.sweep.combined.keys() <= signatures.keys()


def test_top_p_makes_held_out_text_impossible_and_the_sum_infinite(swept: Swept) -> None:
    for cell in cells(swept):
        infinite = cell.top_p < 1
        assert np.isinf(cell.test["held-out NLL"].value) == infinite
        assert np.isinf(cell.test["NLL_oracle + held-out NLL"].value) == infinite
        assert np.isfinite(cell.test["NLL_oracle"].value)


def test_the_figures_of_a_point_are_those_of_an_independent_computation(swept: Swept) -> None:
    """A temperature is chosen by validation text and the first texts that were drawn, and reported by the others."""
    subject = Subject(swept.folder, silently)
    with Checkpoints(swept.folder.checkpoints, read_only=True) as checkpoints:
        best = next(one for one in candidates(checkpoints) if one.name == "adversarial, best")
        model = subject.model(checkpoints, best)
    drawing = Drawing(0.5)
    written = model.write(40, drawing)
    source = subject.text.source.log_prob(written.tokens) / 6
    (cell,) = [c for c in cells(swept) if (c.column, c.temperature, c.top_p) == ("adversarial", 0.5, 1.0)]
    for side, rows, split in (
        (cell.valid, slice(0, 20), subject.text.valid),
        (cell.test, slice(20, 40), subject.text.test),
    ):
        assert side["NLL_oracle"].value == pytest.approx(-np.mean(source[rows]), rel=1e-6)
        nats = likelihood_of(subject.run.generator)(model.params, evaluation_batches(split, 10), drawing)
        assert side["held-out NLL"].value == pytest.approx(nats.nats.sum() / nats.tokens.sum(), rel=1e-6)
        both = side["NLL_oracle"].value + side["held-out NLL"].value
        assert side["NLL_oracle + held-out NLL"].value == pytest.approx(both, rel=1e-9)


def test_another_evaluation_keeps_the_sweep_as_long_as_the_checkpoints_are_the_same(swept: Swept) -> None:
    assert evaluate_run(swept.folder, silently, thorough=False).sweep == swept.evaluation.sweep
    assert Evaluation.load(swept.folder.path) == swept.evaluation
    other = dataclasses.replace(swept.evaluation, columns=swept.evaluation.columns[:1])
    other.save(swept.folder.path)
    assert evaluate_run(swept.folder, silently, thorough=False).sweep is None
    swept.evaluation.save(swept.folder.path)


@pytest.mark.thorough
def test_text_of_unknown_source_is_swept_by_ngrams_and_the_judge(tmp_path: Path) -> None:
    keys = {"evaluation.sweep.temperatures": [1.0], "evaluation.sweep.top_p": [1.0]}
    experiment, folder = tiny_experiment(tmp_path, keys | {"data.valid_fraction": 0.4, "data.test_fraction": 0.3})
    train(experiment, folder, silently)
    evaluate_run(folder, silently, thorough=False)
    found = sweep_run(folder, silently).sweep
    assert found is not None
    assert {(axes.quality, axes.diversity) for axes in found.axes} == {
        ("BLEU-4", "Self-BLEU-4"),
        ("LM score", "Self-BLEU-4"),
    }
    assert list(found.combined) == ["Fréchet distance"]
