"""`gptgan score`: the discriminator's scores of the texts in a file, or of the generator's samples, per token."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.data.config import HfData
from gptgan_jax.data.corpora import Split, counted
from gptgan_jax.data.encoding import TokenisedSplit, encode_split, unconditional_split
from gptgan_jax.errors import UserError
from gptgan_jax.generation.pace import News
from gptgan_jax.generation.texts import Drawing, TextWriter
from gptgan_jax.metrics.error_places import NOWHERE
from gptgan_jax.metrics.estimates import Figure
from gptgan_jax.readers.conversations import prompt_value
from gptgan_jax.readers.documents import Columns, read_lines, read_table
from gptgan_jax.readers.files import format_of
from gptgan_jax.readers.labels import class_ids
from gptgan_jax.readers.row_sources import open_rows
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.trained import Writer, load_writer
from gptgan_jax.scoring.token_scores import (
    TOO_FEW,
    Detector,
    TokenScore,
    gives_probabilities,
    load_detector,
    located,
    too_few,
)
from gptgan_jax.tokenization.chat_templates import Prompt

PROMPT, TEXT, RESPONSE, ANSWER, LABEL = "prompt", "text", "response", "answer", "label"
NO_PROMPTS = "the texts have no prompts, so their likelihood under the generator is left out"


@dataclass(frozen=True, eq=False)
class ScoredTexts:
    """Texts, and their scores by a run's discriminator.

    Attributes:
        texts: N texts as given or generated.
        prompts: which they answer; None without prompts.
        scored: the scores of each.
        detector: the discriminator that scored them.
        places: index of the first token that the grammar forbids; None unless the data is an unlabelled grammar.
        figures: how often such tokens were found; empty if none are known.
        notes: a line each on what a reader must know.
    """

    texts: list[str]
    prompts: list[Prompt] | None
    scored: list[TokenScore]
    detector: Detector
    places: list[int] | None
    figures: list[Figure]
    notes: list[str]

    def lines(self) -> Iterator[str]:
        """A JSON object per text: the text, its score, the probability that it is real, and its tokens.

        A token has the score of the text up to and including it, and its log-probability under the generator in nats;
        the last one is the end of text, unless the text was cut off. What has no meaning is null.
        """
        probable = gives_probabilities(self.detector.run.config)
        for i, (text, one) in enumerate(zip(self.texts, self.scored, strict=True)):
            asked = {} if self.prompts is None else {PROMPT: prompt_value(self.prompts[i])}
            line: dict[str, Any] = {
                TEXT: text,
                **asked,
                "score": _plain(one.score),
                "probability": _plain(_sigmoid(one.score)) if probable else None,
            }
            if self.places is not None:
                line["first_ungrammatical"] = None if self.places[i] == NOWHERE else self.places[i]
            likely = [None] * len(one.pieces) if one.log_probs is None else map(_plain, one.log_probs)
            line["tokens"] = [
                {"token": piece.text, "score": _plain(score), "log_prob": log_prob}
                for piece, score, log_prob in zip(one.pieces, one.scores, likely, strict=True)
            ]
            yield json.dumps(line, ensure_ascii=False, allow_nan=False)


def score_texts(
    folder: RunFolder,
    file: Path | None,
    samples: int,
    checkpoint: str,
    seed: int,
    columns: tuple[str | None, str | None],
    say: Callable[[str], None],
) -> ScoredTexts:
    """Scores the texts of a file, or samples of the checkpoint's own generator.

    Args:
        folder: the run folder.
        file: JSON lines, .json, .csv, .tsv or .parquet with a column of texts and, for a run trained with prompts, one
            of prompts; for a run with data.infilling the texts are "response" or else "answer". Any other file has one
            text per line. None: samples.
        samples: their number, at temperature 1, if there is no file.
        checkpoint: "best" or what `Checkpoints.choose` takes.
        seed: of the samples.
        columns: names of the columns of texts and of prompts; None for those of the run's data.
        say: receives one line of output at a time.

    Raises:
        UserError: the run's discriminator was never trained, or the file can't be read.
    """
    run = load_writer(folder)
    if file is None and run.conditional:
        raise UserError(
            "--samples is for runs without prompts; generate answers with `gptgan sample --prompts`, and score"
        )
    split = None if file is None else _read(file, run, *columns)
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        detector = load_detector(folder, checkpoints, run, checkpoint)
    if split is None:
        encoded, texts = _written(run, detector, samples, seed, say)
        which = f"{counted(samples, 'text')} of checkpoint {detector.name}, temperature 1, seed {seed}"
    else:
        encoded, texts, which = _encoded(split, run, str(file)), list(split.texts), str(file)
    say(f"scoring {counted(len(encoded), 'text')} by the discriminator of checkpoint {detector.name}")
    likely = encoded.prompts is not None or not run.conditional
    scored = detector.score(encoded, detector.writer if likely else None)
    places, figures = None, []
    if detector.knows_errors:
        places = detector.error_places(scored)
        by_likelihood = detector.score(encoded, detector.likelihood)
        figures = located(by_likelihood, places, which, detector.name)
    notes = [*detector.notes, *encoded.notes(), *([] if likely else [NO_PROMPTS])]
    if too_few(figures):
        notes.append(TOO_FEW)
    prompts = None if split is None or split.prompts is None else list(split.prompts)
    return ScoredTexts(texts, prompts, scored, detector, places, figures, notes)


def _written(
    run: Writer, detector: Detector, count: int, seed: int, say: Callable[[str], None]
) -> tuple[TokenisedSplit, list[str]]:
    """Samples of the generator, as tokens and as strings."""
    longest = run.config.data.max_length
    writer = TextWriter(run.generator, run.tokenizer, longest)  # as in `gptgan sample`
    written = writer(detector.writer, seed, count, Drawing(), pause=News(say)).as_set()
    return unconditional_split(written.targets, run.generator.vocabulary, longest), written.texts


def _encoded(split: Split, run: Writer, where: str) -> TokenisedSplit:
    data = run.config.data
    unknown = next((word for text in split.texts for word in _strange(run, text)), None)
    if unknown is not None:
        raise UserError(f"{where}: {unknown!r} is no token id of this run, whose text is numbers between spaces")
    encoded = encode_split(split, run.tokenizer, data.max_length, data.max_prompt_length, data.prompt_keep)
    if encoded.empty_documents:
        raise UserError(
            f"{where}: the tokenizer finds no token in {encoded.empty_documents} of its texts; take them out"
        )
    return encoded


def _strange(run: Writer, text: str) -> list[str]:
    """Words that a tokenizer of ids can't read; empty for others, which have an unknown token or know every text."""
    return run.tokenizer.unknown_words(text) if getattr(run.tokenizer, "backend", None) is None else []


def line_notes(file: Path, data: object) -> Iterator[str]:
    """A note on text files whose documents were longer than a line in training."""
    document = getattr(data, "document", "line")
    if format_of(file) is None and document != "line":
        yield f"{file} is read as one text per line, but this run learned one {document} at a time (data.document)"


def _read(file: Path, run: Writer, text_column: str | None, prompt_column: str | None) -> Split:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    form, where = format_of(file), str(file)
    asked = run.conditional and not run.config.label_prompts
    if form is None:
        if text_column or prompt_column:
            raise UserError(f"{file} has one text per line and no columns; drop --text-column and --prompt-column")
        if asked:
            raise UserError(f"this run scores answers to prompts: {file} should have rows (.jsonl, .csv) with both")
        return Split(read_lines(where, where)[0])
    if prompt_column and not asked:
        raise UserError("this run's discriminator reads no prompts; drop --prompt-column")
    data, rows = run.config.data, open_rows(where, form, None, where, where, False)
    there = rows.columns()
    own = isinstance(data, HfData)
    usual = data.text_column if isinstance(data, HfData) else TEXT
    if run.config.infilling is not None:  # that column has whole texts; `gptgan data` writes what is missing in them
        usual = RESPONSE if RESPONSE in there else ANSWER
    text = text_column or usual
    if text_column is None and text not in there and RESPONSE in there:
        text = RESPONSE  # from `gptgan sample --prompts`
    prompt = None
    if asked:
        prompt = prompt_column or (data.prompts_from if isinstance(data, HfData) else None) or PROMPT
        if own and prompt not in there and text == RESPONSE and PROMPT in there:
            prompt = PROMPT
    label = (data.label_column if isinstance(data, HfData) else None) or LABEL
    labelled = label if run.config.label_prompts and label in there else None
    every_turn = isinstance(data, HfData) and data.every_turn
    table = read_table(rows, Columns(text, prompt, labelled, every_turn=every_turn))
    if any(one is not None for one in table.labels or ()):
        class_ids(where, table, run.classes, "run's labels")  # refuses any other
        # A text without a label has the empty prompt, as in training.
        return Split(table.texts, ["" if one is None else str(one) for one in table.labels or ()])
    return Split(table.texts, table.prompts)


def _sigmoid(score: float) -> float:
    return 0.5 * (1 + math.tanh(score / 2))


def _plain(value: float) -> float | None:
    """Six decimals; None if it is not finite."""
    return round(float(value), 6) if np.isfinite(value) else None
