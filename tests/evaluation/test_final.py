"""The final judgement: which checkpoints, on which text, with which counts."""

from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import tiny_experiment

from gptgan_jax.data.batches import evaluation_batches
from gptgan_jax.evaluation import final
from gptgan_jax.evaluation.final import Evaluation, candidates, evaluate_run
from gptgan_jax.evaluation.likelihood import HeldOut
from gptgan_jax.runs.checkpoints import Checkpoints, Saved
from gptgan_jax.runs.held_out import held_out_of, save_held_out
from gptgan_jax.training.phases import build_gan
from gptgan_jax.types import Batch, Params


class Listed:
    """Stands in for Checkpoints, with a given list."""

    def __init__(self, *saved: Saved) -> None:
        self.saved = saved

    def all(self) -> list[Saved]:
        return list(self.saved)

    best, ranked = Checkpoints.best, Checkpoints.ranked


L4, L6 = Saved("likelihood", 4, 1.0), Saved("likelihood", 6, 2.0)
W8, A10, A12 = Saved("warmup", 8, 0.1), Saved("adversarial", 10, 1.5), Saved("adversarial", 12, 1.7)


@pytest.mark.parametrize(
    ("saved", "judged"),
    [
        ([], {}),
        ([L4, L6], {"likelihood": L4}),
        ([L4, L6, W8], {"likelihood": L4}),
        ([L4, L6, W8, A10], {"likelihood": L4, "adversarial, best": A10}),
        ([L4, A10, A12], {"likelihood": L4, "adversarial, best": A10, "adversarial, last": A12}),
        ([A12], {"adversarial, best": A12}),
    ],
)
def test_the_best_of_each_phase_is_judged_and_the_last_where_it_is_another(saved: list, judged: dict) -> None:
    assert candidates(Listed(*saved)) == judged


SEEN: list[np.ndarray] = []


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, object]:
    """A run with one checkpoint, judged, while the targets that likelihood is asked of are noted."""
    experiment, folder = tiny_experiment(tmp_path_factory.mktemp("final"), {"evaluation.samples": 10})
    save_held_out(folder.path, held_out_of(experiment))
    folder.create(experiment.config, experiment.tokenizer)
    gan = build_gan(experiment.config, "likelihood", experiment.generator, experiment.discriminator)
    with Checkpoints(folder.checkpoints) as checkpoints:
        checkpoints.save("likelihood", jax.jit(gan.init)(jax.random.key(0), experiment.example_batch()), 2.0)
    real = final.likelihood_of

    def noting(generator: object) -> object:
        evaluate = real(generator)

        def inner(params: Params, batches: Iterable[Batch]) -> HeldOut:
            batches = list(batches)
            SEEN.extend(np.asarray(batch.target)[np.asarray(batch.target_mask).any(axis=1)] for batch in batches)
            return evaluate(params, batches)

        return inner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(final, "likelihood_of", noting)
        return evaluate_run(folder, lambda line: None), experiment


def row(evaluation: Evaluation, name: str):
    return next(score for score in evaluation.scores if score.name == name)


def test_its_likelihood_is_of_the_test_text_all_of_it_and_of_nothing_else(evaluated) -> None:
    _, experiment = evaluated
    expected = next(evaluation_batches(experiment.test, len(experiment.test))).target
    np.testing.assert_array_equal(np.concatenate(SEEN), expected)
    training = {tuple(experiment.train.targets[i].tolist()) for i in range(len(experiment.train))}
    assert not any(tuple(t[t != experiment.tokenizer.vocabulary.pad_id].tolist()) in training for t in expected)


def test_samples_are_as_many_as_the_real_texts_beside_them(evaluated) -> None:
    evaluation, experiment = evaluated
    assert len(experiment.test) == 12
    assert row(evaluation, "distinct-1").signature == "10 samples, temperature 1, seed 0"


def test_every_score_says_what_it_was_measured_with(evaluated) -> None:
    evaluation, _ = evaluated
    assert all(score.signature for score in evaluation.scores)
    assert row(evaluation, "held-out NLL").signature == "12 test texts, T=6"


def test_real_text_stands_beside_every_score_but_the_generators_own_likelihood(evaluated) -> None:
    evaluation, experiment = evaluated
    assert all((score.values["real text"] is None) == score.name.startswith("held-out") for score in evaluation.scores)
    lengths = [len(experiment.test.targets[i]) for i in range(10)]
    assert row(evaluation, "length").values["real text"] == pytest.approx(np.mean(lengths))


def test_an_evaluation_leaves_the_checkpoints_as_they_are(evaluated) -> None:
    evaluation, experiment = evaluated
    path = Path(experiment.config.runs_folder) / experiment.config.name / "checkpoints" / "likelihood"
    assert [child.name for child in path.iterdir()] == ["0"]
    assert list(evaluation.shown) == ["likelihood"]
    assert len(evaluation.shown["likelihood"]) == experiment.config.evaluation.shown
