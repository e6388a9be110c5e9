"""Evaluates an unmodified Hugging Face model on the text and settings of a config, like a run that starts from it."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gptgan_jax.config.checking import config_from
from gptgan_jax.config.files import override, with_absolute_paths
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.final import evaluate_run
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import held_out_of, save_held_out
from gptgan_jax.runs.start import save_start
from gptgan_jax.schema.yaml_files import read_yaml

# The sections of a config that determine the text and the settings of an evaluation.
SECTIONS = ("data", "evaluation", "seed")


def evaluate_model(name: str, file: Path, overrides: Sequence[str], say: Callable[[str], None]) -> Evaluation:
    """Scores a model on a config's held-out text.

    Args:
        name: hf:FOLDER, gguf:FILE or hub:NAME.
        file: the config; its networks, tokenizer and training are ignored.
        overrides: overrides of its text and evaluation settings.
        say: called with one line of progress at a time.

    Raises:
        UserError: no such model or config, or text that can't be read.
    """
    raw: dict[str, Any] = {key: value for key, value in read_yaml(file).items() if key in SECTIONS}
    override(raw, overrides)
    if others := sorted(set(raw) - set(SECTIONS)):
        raise UserError(f"--{others[0]} says nothing of a model as it came; give keys of {', '.join(SECTIONS)}")
    with tempfile.TemporaryDirectory() as place:
        raw |= {"name": "model", "runs_folder": place, "init_from": name}
        config = with_absolute_paths(config_from(raw, str(file)))
        experiment = load_experiment(config)
        for note in experiment.notes:
            say(f"note: {note}")
        folder = RunFolder.of(config)
        assert experiment.start is not None
        save_start(folder.checkpoints_of(config), experiment.start.params())
        save_held_out(folder.path, held_out_of(experiment))
        folder.create(config, experiment.tokenizer, experiment.corpus.classes)
        return evaluate_run(folder, say)
