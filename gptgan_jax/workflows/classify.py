"""`gptgan classify`: a run's classifier on a file of texts."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.data.config import HfData
from gptgan_jax.data.corpora import Split
from gptgan_jax.data.encoding import encode_split
from gptgan_jax.errors import UserError
from gptgan_jax.metrics.class_scores import Told
from gptgan_jax.readers.documents import Columns, read_lines, read_table
from gptgan_jax.readers.files import format_of
from gptgan_jax.readers.labels import class_ids
from gptgan_jax.readers.row_sources import open_rows
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import load_held_out
from gptgan_jax.runs.trained import Writer, load_writer
from gptgan_jax.scoring.classifier import check_classifies, choose_classifier, load_classifier
from gptgan_jax.workflows.score import ANSWER, LABEL, PROMPT, TEXT, line_notes


@dataclass(frozen=True, eq=False)
class ClassifiedFile:
    """Texts, and the predictions of a run's classifier.

    Attributes:
        texts: N texts.
        told: the predictions, with the labels if the file has any.
        classes: the names of the labels.
        notes: a line each on what a reader must know.
    """

    texts: list[str]
    told: Told
    classes: tuple[str, ...]
    notes: list[str]

    def lines(self) -> Iterator[str]:
        """A JSON object per text: the text, its most likely class, and the probability of each class."""
        probabilities = np.exp(self.told.log_probs)
        for text, chosen, row in zip(self.texts, self.told.classes, probabilities, strict=True):
            by_class = {name: round(float(p), 6) for name, p in zip(self.classes, row, strict=True)}
            line = {"text": text, "label": self.classes[chosen], "probabilities": by_class}
            yield json.dumps(line, ensure_ascii=False)


def classify_file(folder: RunFolder, file: Path, checkpoint: str, say: Callable[[str], None]) -> ClassifiedFile:
    """Reads a file and classifies its texts.

    Args:
        folder: the run folder.
        file: JSON lines, .json, .csv, .tsv or .parquet with the run's text column ("text" if its data has no columns),
            its prompt column, if it has one, and optionally its label column ("label"); for a run with data.infilling
            "answer", "prompt" and "label", as `gptgan data` writes them. Any other file, for a run without prompts, has
            one text per line.
        checkpoint: "best" or what `Checkpoints.choose` takes.
        say: receives one line of output at a time.

    Raises:
        UserError: a run without classes, a file that can't be read, or a label that is not the run's.
    """
    run = load_writer(folder)
    check_classifies(run)
    split = _read(file, run)
    data = run.config.data
    encoded = encode_split(split, run.tokenizer, data.max_length, data.max_prompt_length, data.prompt_keep)
    if encoded.empty_documents:
        raise UserError(
            f"{file}: the tokenizer finds no token in {encoded.empty_documents} of its texts; take them out"
        )
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        saved = choose_classifier(checkpoints, checkpoint)
        classifier = load_classifier(checkpoints, run, saved)
    say(f"classifying {len(encoded)} texts by checkpoint {saved.phase}/{saved.step}")
    notes = [*encoded.notes(), *line_notes(file, data)]
    spelt = [run.tokenizer.decode(encoded.targets[i].tolist()) for i in range(len(encoded))]
    known = int(load_held_out(folder.path, run.tokenizer.vocabulary).copied(spelt).sum())
    if known:
        notes.append(f"{known} of the {len(encoded)} texts are in the run's training text")
    return ClassifiedFile(list(split.texts), classifier.tell(encoded), run.classes, notes)


def _read(file: Path, run: Writer) -> Split:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    form, where, data = format_of(file), str(file), run.config.data
    text_column, prompt_column, label_column, every_turn = TEXT, None, LABEL, False
    if run.config.infilling is not None:  # the texts in the columns of its data became prompts and answers
        text_column, prompt_column = ANSWER, PROMPT
    elif isinstance(data, HfData):
        every_turn = data.every_turn
        text_column, label_column = data.text_column, data.label_column or label_column
        prompt_column = data.prompts_from
    if form is None:
        if prompt_column is not None:
            raise UserError(f"this run classifies a text together with its prompt: {file} should be rows with both")
        return Split(read_lines(where, where)[0])
    rows = open_rows(where, form, None, where, where, False)
    labelled = label_column if label_column in rows.columns() else None
    table = read_table(rows, Columns(text_column, prompt_column, labelled, every_turn=every_turn))
    if not any(label is not None for label in table.labels or ()):
        return Split(table.texts, table.prompts)
    return Split(table.texts, table.prompts, class_ids(where, table, run.classes, "run's labels"))
