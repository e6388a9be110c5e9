"""The model card (README.md) of an exported generator: description, usage, data, scores and settings."""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.config import Config
from gptgan_jax.config.files import to_yaml
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.models.trees import parameter_summary
from gptgan_jax.pretrained.hub import HUB, is_model
from gptgan_jax.reports.document import Block, Bullets, Code, Heading, Paragraph, to_markdown
from gptgan_jax.reports.tables import table_of_scores
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.types import Params

# The folders of an absolute path, which are private and have no place in a card.
FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^/\s,;]+/)+")
# An absolute path as a setting, such as hf:/home/somebody/model.
PATH = re.compile(r"([a-z]*:)?(/.*)")
HEAD: dict[str, dict[str, Any]] = {
    "hf": {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["gptgan_jax"]},
    "stablehlo": {"tags": ["gptgan_jax", "stablehlo"]},
    "savedmodel": {"library_name": "tf", "tags": ["gptgan_jax"]},
}
# The longest chain of runs that start from other runs.
MOST_STARTS = 20


def model_card(kind: str, config: Config, params: Params, saved: Saved, evaluation: Evaluation | None, use: str) -> str:
    """The card as Markdown.

    Args:
        kind: hf, stablehlo or savedmodel.
        config: of the run.
        params: the generator's.
        saved: the checkpoint of these parameters.
        evaluation: of the run; None if it was not evaluated.
        use: a Python program that generates a text.
    """
    network = config.generator
    size = f"memory slots: {network.slots}" if network.kind == "relational" else f"layers: {network.layers}"
    shape = f"{network.kind}, {size}, {parameter_summary(params)}"
    blocks: list[Block] = [
        Heading(config.name, 1),
        Paragraph(
            f"A text generator ({shape}), trained by gptgan_jax: checkpoint {saved.phase}/{saved.step}. "
            f"It generates texts of at most {config.data.max_length} tokens."
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
    base = base_model(config)
    head = HEAD[kind] | ({} if base is None else {"base_model": base})
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{to_markdown(blocks)}"


def base_model(config: Config) -> str | None:
    """The pretrained model that a run starts from, directly or through other runs: its hub name, or a file name."""
    source = config.init_from
    for _ in range(MOST_STARTS):
        if source is None:
            return None
        if is_model(source):
            return source.removeprefix(HUB).partition("@")[0] if source.startswith(HUB) else _name_alone(source)
        try:
            source = RunFolder(Path(source)).read_config().init_from
        except UserError:  # it no longer exists
            return None
    return None


def _scores(saved: Saved, evaluation: Evaluation | None) -> list[Block]:
    if evaluation is None:
        return [Paragraph("Not evaluated yet: run gptgan evaluate RUN, and export again.")]
    here = [column.name for column in evaluation.columns if column.checkpoint == f"{saved.phase}/{saved.step}"]
    which = f"This checkpoint is the column {here[0]}." if here else "None of the columns is this checkpoint."
    notes = tuple(FOLDERS.sub("", note) for note in evaluation.notes)
    return [Paragraph(which), table_of_scores(evaluation.scores, evaluation.means_something), Bullets(notes)]


def _plain(config: Config) -> dict[str, Any]:
    """The configuration as plain data; paths are reduced to the file name."""
    return _names_alone(yaml.safe_load(to_yaml(config)))


def _names_alone(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _names_alone(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_names_alone(value) for value in tree]
    if isinstance(tree, str) and (path := PATH.fullmatch(tree)):
        return (path[1] or "") + os.path.basename(path[2].rstrip("/"))
    return tree


def _name_alone(source: str) -> str:
    """The last part of a path, without the prefix for the kind of model."""
    return os.path.basename(source.partition(":")[2].rstrip("/"))


def _data(config: Config) -> dict[str, Any]:
    """The text settings of the configuration, the kind of data first."""
    data = _plain(config)["data"]
    return {name: data[name] for name in ("kind", *data) if data[name] is not None}
