"""Pre-trained on captions, fine-tuned on each task: below a start from scratch after the same few updates."""

import random
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_experiment

from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.training.loop import train

LIKELIHOOD_ALONE = {"continued.steps": 0, "warmup.steps": 0, "adversarial.steps": 0}
NETWORK = {
    "generator.width": 24,
    "generator.heads": 2,
    "generator.max_positions": 64,
    "data.max_length": 14,
    "data.max_prompt_length": 24,
    "likelihood.batch_size": 32,
    "likelihood.optimizer.learning_rate": 5e-3,
    "evaluation.batch_size": 100,
    "evaluation.shown": 1,
}
OF_GRAMMAR = {
    "data.kind": "grammar",
    "data.valid_fraction": None,
    "data.test_fraction": None,
    "data.train_size": 1000,
    "data.valid_size": 200,
    "data.test_size": 20,
}
TASKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "condense": {"data.task": "condense"},
    "answer": {"data.task": "answer"},
    "label to sentence": {"data.label": "tense", "data.label_prompts": True},
}
UPDATES = 20


def write_captions(path: Path, lines: int = 1500) -> Path:
    """What pictures show, from a template that is not the grammar, though most of its words are."""
    words = random.Random(0)
    things = ["man", "woman", "boy", "girl", "dog", "cat", "horse", "bird", "car", "bus", "teacher", "farmer"]
    places = ["street", "table", "house", "river", "park", "road", "bench", "tree", "bridge", "field"]
    looks = ["old", "young", "small", "big", "white", "black", "brown", "red"]
    does = ["sitting", "standing", "sleeping", "walking", "running", "waiting"]

    def noun(names: list[str]) -> str:
        return " ".join([words.choice(["a", "the"]), *[words.choice(looks)] * words.randrange(2), words.choice(names)])

    def caption() -> str:
        where = f"{words.choice(['near', 'on', 'beside', 'behind'])} {noun(places)}"
        other = [f"and {noun(things)} are"] if words.random() < 0.3 else ["is"]
        return " ".join([noun(things), *other, words.choice(does), where, "."])

    path.write_text("".join(caption() + "\n" for _ in range(lines)), encoding="utf-8")
    return path


def validation(folder: RunFolder) -> float:
    """After the last update, nats a token."""
    return [line["valid_nats_per_token"] for line in read_metrics(folder.path) if "valid_nats_per_token" in line][-1]


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("captions")
    keys = {"data.train": str(write_captions(folder / "captions.txt")), "likelihood.steps": 200}
    experiment, run = tiny_experiment(folder, NETWORK | LIKELIHOOD_ALONE | keys | {"evaluation.every": 200})
    train(experiment, run, lambda line: None)
    return run


def tuned(folder: Path, task: dict[str, Any], **keys: Any) -> float:
    """Validation loss of a few updates on a task, in the grammar's own vocabulary."""
    folder.mkdir()
    updates = {"likelihood.steps": UPDATES, "evaluation.every": UPDATES}
    experiment, run = tiny_experiment(folder, NETWORK | LIKELIHOOD_ALONE | OF_GRAMMAR | updates | task | keys)
    train(experiment, run, lambda line: None)
    return validation(run)


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [
        "answer",
        *(pytest.param(name, marks=pytest.mark.thorough) for name in ("plain", "condense", "label to sentence")),
    ],
)
def test_a_start_from_captions_is_below_a_start_from_scratch(name: str, captions: RunFolder, tmp_path: Path) -> None:
    start = {"init_from": str(captions.path), "init_vocabulary": "by_token"}
    scratch = tuned(tmp_path / "scratch", TASKS[name])
    assert tuned(tmp_path / "start", TASKS[name], **start) < scratch - 0.3
