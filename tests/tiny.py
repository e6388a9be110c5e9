"""The smallest runs that still have everything: three phases of a few steps on sixty sentences, in about a second."""

import dataclasses
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from gptgan_jax.cli import main
from gptgan_jax.config import Config
from gptgan_jax.config.files import load_config
from gptgan_jax.runs.experiment import Experiment, load_experiment
from gptgan_jax.runs.folder import RunFolder

TINY: dict[str, Any] = {
    "data.kind": "text",
    "data.max_length": 6,
    "data.max_prompt_length": 3,
    "data.valid_fraction": 0.2,
    "data.test_fraction": 0.2,
    "generator.layers": 1,
    "generator.width": 8,
    "generator.heads": 2,
    "generator.max_positions": 16,
    "discriminator.kind": "linear",
    "discriminator.embedding": 4,
    "likelihood.steps": 6,
    "likelihood.batch_size": 8,
    "likelihood.optimizer.learning_rate": 0.03,
    "continued.steps": 2,
    "warmup.steps": 2,
    "warmup.batch_size": 8,
    "adversarial.steps": 4,
    "adversarial.batch_size": 8,
    "evaluation.every": 2,
    "evaluation.log_every": 1,
    "evaluation.batch_size": 8,
    "evaluation.samples": 8,
    "evaluation.shown": 3,
    "evaluation.judge.steps": 3,
    "evaluation.judge.width": 8,
    "evaluation.judge.layers": 1,
    "evaluation.sweep.temperatures": [0.5, 1.0],
    "evaluation.sweep.top_p": [1.0, 0.8],
    "evaluation.sweep.samples": 20,
    "records.tensorboard": False,
}
# Over TINY: the base of a comparison or a study, an LSTM on sentences of the grammar.
COMPARED: dict[str, Any] = {
    "data.kind": "grammar",
    "data.max_length": 25,
    "data.train_size": 60,
    "data.valid_size": 30,
    "data.test_size": 30,
    "data.valid_fraction": None,
    "data.test_fraction": None,
    "generator": {"kind": "lstm", "embedding": 4, "hidden": 4},
    **dict.fromkeys([f"generator.{key}" for key in ("layers", "width", "heads", "max_positions")]),
    "likelihood.steps": 4,
    "continued.steps": None,
    "adversarial.generator_optimizer.learning_rate": 0.05,
    "evaluation.batch_size": 30,
    "evaluation.samples": 30,
    "evaluation.sweep.temperatures": [0.5, 1.0],
    "evaluation.sweep.top_p": [1.0],
}
# Over TINY: on sentences of the built-in grammar, which such a network hardly ever writes.
GRAMMAR: dict[str, Any] = {
    "data.kind": "grammar",
    "data.valid_fraction": None,
    "data.test_fraction": None,
    "data.max_length": 25,
    "data.train_size": 300,
    "data.valid_size": 80,
    "data.test_size": 80,
    "generator.max_positions": 32,
    "discriminator.embedding": 8,
    "continued.steps": 0,
    "adversarial.steps": 2,
    "evaluation.samples": 80,
    "evaluation.batch_size": 80,
}


def write_corpus(path: Path, sentences: int = 60) -> Path:
    """Sentences of two to four words, all different."""
    words = random.Random(0)
    subjects = ["cats", "dogs", "birds", "mice", "cows"]
    verbs = ["run", "sleep", "sing", "eat", "hide"]
    lines: dict[str, None] = {}
    while len(lines) < sentences:
        choice = [words.choice(subjects), words.choice(verbs), words.choice(["", "here", "there", "now"])]
        lines[" ".join(["two", *choice][words.randrange(2) :]).strip()] = None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_config(folder: Path, overrides: Mapping[str, Any] | None = None) -> Path:
    """FOLDER/tiny.yaml, whose run is FOLDER/runs/tiny; overrides are dotted keys, None leaves a key out."""
    keys = TINY | {"runs_folder": str(folder / "runs")} | dict(overrides or {})
    if keys["data.kind"] == "text" and "data.train" not in keys:
        keys["data.train"] = str(write_corpus(folder / "corpus.txt"))
    tree: dict[str, Any] = {}
    for dotted, value in keys.items():
        *parents, last = dotted.split(".")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        if value is not None:
            node[last] = value
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def tiny_config(folder: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration in `write_config`'s file."""
    return load_config(write_config(folder, overrides))


def tiny_experiment(folder: Path, overrides: Mapping[str, Any] | None = None) -> tuple[Experiment, RunFolder]:
    """What `train` takes: the loaded experiment, and its run folder, which is not made yet."""
    config = tiny_config(folder, overrides)
    return load_experiment(config), RunFolder.of(config)


def train_tiny(folder: Path, overrides: Mapping[str, Any] | None = None) -> Path:
    """A finished run through the command line; its run folder."""
    assert main(["train", str(write_config(folder, overrides))]) == 0
    return folder / "runs" / "tiny"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a configuration with its value."""
    for field in dataclasses.fields(value):
        child = getattr(value, field.name)
        if dataclasses.is_dataclass(child):
            yield from leaves(child, f"{path}{field.name}.")
        else:
            yield path + field.name, child
