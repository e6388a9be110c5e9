"""The model card (README.md) of an exported generator: what it is, how to use it, its data, scores and settings."""

import os
import re
from typing import Any

import yaml

from gptgan_jax.config import Config
from gptgan_jax.config_files import to_yaml
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.interop.hub import FOLDER
from gptgan_jax.models.generators import parameter_summary
from gptgan_jax.reports.document import Block, Bullets, Code, Heading, Paragraph, to_markdown
from gptgan_jax.reports.tables import table_of_scores
from gptgan_jax.runs.checkpoints import Saved
from gptgan_jax.types import Params

# A path from the root, without its last part: where a user's files lie is no business of a card's reader.
FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^/\s,;]+/)+")
HEAD = {
    "hf": "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [gptgan_jax]\n---\n\n",
    "stablehlo": "---\ntags: [gptgan_jax, stablehlo]\n---\n\n",
    "savedmodel": "---\nlibrary_name: tf\ntags: [gptgan_jax]\n---\n\n",
}


def model_card(kind: str, config: Config, params: Params, saved: Saved, evaluation: Evaluation | None, use: str) -> str:
    """The card as Markdown.

    Args:
        kind: hf, stablehlo or savedmodel.
        config: of the run.
        params: the generator's.
        saved: the checkpoint that they are of.
        evaluation: of the run, where it was judged.
        use: a Python program that writes a text.
    """
    network = config.generator
    shape = f"{network.kind}, layers: {network.layers}, {parameter_summary(params)}"
    blocks: list[Block] = [
        Heading(config.name, 1),
        Paragraph(
            f"A text generator ({shape}), trained by gptgan_jax: checkpoint {saved.phase}/{saved.step}. "
            f"It writes texts of at most {config.data.max_length} tokens."
        ),
        Heading("Use"),
        Code(use.rstrip("\n"), "python"),
        Heading("Data"),
        Bullets(tuple(f"{name}: {value}" for name, value in _data(config).items())),
        Heading("Scores"),
        *_scores(saved, evaluation),
        Heading("Settings"),
        Code(yaml.safe_dump(_plain(config), sort_keys=False).rstrip("\n"), "yaml"),
    ]
    return HEAD[kind] + to_markdown(blocks)


def _scores(saved: Saved, evaluation: Evaluation | None) -> list[Block]:
    if evaluation is None:
        return [Paragraph("Not judged yet: gptgan evaluate RUN, and another export, would say.")]
    here = [column.name for column in evaluation.columns if column.checkpoint == f"{saved.phase}/{saved.step}"]
    which = f"This checkpoint is the column {here[0]}." if here else "None of the columns is this checkpoint."
    notes = tuple(FOLDERS.sub("", note) for note in evaluation.notes)
    return [Paragraph(which), table_of_scores(evaluation.scores), Bullets(notes)]


def _plain(config: Config) -> dict[str, Any]:
    """The configuration as plain data, files by their last part."""
    return _names_alone(yaml.safe_load(to_yaml(config)))


def _names_alone(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _names_alone(value) for name, value in tree.items()}
    if isinstance(tree, str) and tree.startswith(("/", f"{FOLDER}/")):
        return (FOLDER if tree.startswith(FOLDER) else "") + os.path.basename(tree)
    return tree


def _data(config: Config) -> dict[str, Any]:
    """What the configuration says of its text, what kind it is first."""
    data = _plain(config)["data"]
    return {name: data[name] for name in ("kind", *data) if data[name] is not None}
