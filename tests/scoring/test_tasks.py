"""A task's figures: right answers get the best there are, the baselines what they must, and all of it on test text."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny import tiny_experiment

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.data.infilling import Filling, fill
from gptgan_jax.evaluation.final import evaluate_run
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.metrics.estimates import REAL, Figure
from gptgan_jax.runs.experiment import Experiment
from gptgan_jax.runs.held_out import held_out_of, save_held_out
from gptgan_jax.scoring.tasks import ANOTHERS, COMMONEST, FIRST_SENTENCE, Task
from gptgan_jax.sources.grammar_tasks import GrammarTask, answer_to
from gptgan_jax.training.phases import build_gan


def keys(task: GrammarTask | None, measured: str) -> dict[str, Any]:
    return {
        "data.kind": "grammar",
        "data.valid_fraction": None,
        "data.test_fraction": None,
        "data.task": task,
        "data.train_size": 60,
        "data.valid_size": 30,
        "data.test_size": 40,
        "data.max_length": 30,
        "data.max_prompt_length": 60,
        "generator.max_positions": 96,
        "evaluation.samples": 25,
        "evaluation.task": measured,
    }


def value_of(figures: list[Figure], name: str) -> float | None:
    return next(figure.estimate.value for figure in figures if figure.name == name)


def task_of(experiment: Experiment, name: Any, classifies: bool = False) -> Task:
    return Task(name, experiment.test, experiment.train, experiment.tokenizer, classifies)


@pytest.mark.parametrize(("grammar", "name"), [("answer", "answer"), ("condense", "summary")])
def test_an_oracle_is_always_right_and_another_prompts_answer_hardly_ever(grammar, name, tmp_path: Path) -> None:
    task = task_of(tiny_experiment(tmp_path, keys(grammar, name))[0], name)
    oracle = [answer_to(grammar, prompt) or "" for prompt in task.prompts]
    assert value_of(task.figures(oracle), "exact match") == 1
    baselines = task.baselines("", 0)
    assert (value_of(baselines[ANOTHERS], "exact match") or 0) < 0.1
    if name == "summary":
        assert value_of(task.figures(oracle), "ROUGE-L") == pytest.approx(1)
        assert 0.4 < (value_of(baselines[FIRST_SENTENCE], "ROUGE-1") or 0) < 1
        # What is copied whole has nothing new in it.
        assert value_of(baselines[FIRST_SENTENCE], "new 2-grams") == 0
    else:
        assert (value_of(baselines[COMMONEST], "exact match") or 0) < 0.2


def test_what_fills_blanks_is_right_if_it_gives_the_text_back(tmp_path: Path) -> None:
    experiment, _ = tiny_experiment(tmp_path, keys(None, "answer") | {"data.infilling.share": 0.3})
    task = dataclasses.replace(task_of(experiment, "answer"), word_for_word=True)
    pairs = list(zip(task.prompts, task.right, strict=True))
    last = [prompt.endswith("_") for prompt, _ in pairs]
    assert 0 < sum(last) < len(last)
    without_stops = [answer.removesuffix(".").strip() for _, answer in pairs]
    for answers in (list(task.right), without_stops):
        filled = [fill(prompt, right) for prompt, right in pairs]
        same = [
            Filling("_").of(prompt, one) == text for (prompt, _), one, text in zip(pairs, answers, filled, strict=True)
        ]
        assert value_of(task.figures(answers), "exact match") == pytest.approx(np.mean(same))
        assert task.error(answers) == pytest.approx(1 - np.mean(same))
    assert not all(same)


@pytest.mark.thorough
def test_a_classifier_tells_replies_to_other_prompts_from_real_ones(tmp_path: Path) -> None:
    """Each prompt is repeated in its reply, so that a reply tells whether it is to this prompt."""
    file = tmp_path / "turns.jsonl"
    lines = [f'{{"text": "{word} {word}", "ask": "{word}"}}' for word in ("a", "b") * 100]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    hf = {"data.kind": "hf", "data.train": str(file), "data.valid": str(file), "data.prompt_column": "ask"}
    experiment, _ = tiny_experiment(tmp_path, {**hf, "evaluation.task": "dialogue"})
    task = task_of(experiment, "dialogue", classifies=True)
    name = "classifier accuracy on turns"
    assert (value_of(task.baselines("200 texts", 0)[ANOTHERS], name) or 0) > 0.9
    assert (value_of(task.real_figures(experiment.test, "200 texts", 0), name) or 1) < 0.65
    assert (value_of(task.drawn_figures(task.references, "200 texts", 0), name) or 1) < 0.65
    assert task_of(experiment, "dialogue").drawn_figures(task.references, "", 0) == []


def test_dull_replies_are_seen(tmp_path: Path) -> None:
    task = task_of(tiny_experiment(tmp_path, keys("answer", "dialogue"))[0], "dialogue")
    dull = task.figures(["i don't know"] * len(task))
    assert value_of(dull, "different likeliest replies") == 1 / len(task)
    assert (value_of(task.real_figures(task.asked, "", 0), "different likeliest replies") or 0) > 0.5
    assert task.baselines("", 0) == {}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Experiment]:
    """Of an untrained generator."""
    experiment, folder = tiny_experiment(tmp_path_factory.mktemp("tasks"), keys("condense", "summary"))
    save_held_out(folder.path, held_out_of(experiment))
    folder.create(experiment.config, experiment.tokenizer)
    gan = build_gan(experiment.config, "likelihood", experiment.generator, experiment.discriminator)
    with Checkpoints(folder.checkpoints) as checkpoints:
        checkpoints.save("likelihood", jax.jit(gan.init)(jax.random.key(0), experiment.example_batch()), 2.0)
    return evaluate_run(folder, lambda line: None, thorough=False), experiment


@pytest.mark.thorough
def test_a_runs_table_has_the_task_and_its_baselines(judged: tuple[Evaluation, Experiment]) -> None:
    rows = {score.name: score for score in judged[0].scores}
    assert rows["ROUGE-L"].values.keys() == {"likelihood", FIRST_SENTENCE, ANOTHERS}
    assert rows["new 2-grams"].values.keys() == {"likelihood", FIRST_SENTENCE, ANOTHERS, REAL}
    assert rows["exact match"].signature == "25 prompts, greedy; final answer"
    assert [column.name for column in judged[0].columns] == ["likelihood"]


def test_it_is_measured_on_test_text_and_never_on_training_text(judged: tuple[Evaluation, Experiment]) -> None:
    evaluation, experiment = judged
    task = Task("summary", experiment.test.subset(np.arange(25)), experiment.train, experiment.tokenizer)
    copied = next(score for score in evaluation.scores if score.name == "ROUGE-2").values[FIRST_SENTENCE]
    assert copied == next(f.estimate for f in task.baselines("", 0)[FIRST_SENTENCE] if f.name == "ROUGE-2")
    assert set(task.prompts).isdisjoint(experiment.corpus.train.prompts or ())
    # An answer that stands in the training text may be right for many prompts: no sign of a leak.
    assert not any("IN THE TRAINING TEXT" in score.signature for score in evaluation.scores)
