"""What distillation needs besides training: prompts in a file, a teacher's responses to them, its likeliest tokens.

    gptgan data CONFIG --split train --out prompts.jsonl
    gptgan sample TEACHER --prompts prompts.jsonl --out responses.jsonl
    gptgan data CONFIG --top-k 32 --out top_k.safetensors

The first two write JSON lines, for `data.kind: hf`; the last writes the file for `objective.estimator.top_k_file`.
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptgan_jax.config import Config
from gptgan_jax.data.batches import evaluation_batches
from gptgan_jax.data.config import HfData
from gptgan_jax.data.corpora import Corpus, counted
from gptgan_jax.data.infilling import Filling
from gptgan_jax.data.prompts import EncodedPrompt, cut_note, encode_prompts
from gptgan_jax.data.tokenizers import AnyTokenizer, Tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.generation.batch_sizes import rows_at_once
from gptgan_jax.generation.texts import Drawing, TextWriter
from gptgan_jax.readers.cells import as_json
from gptgan_jax.readers.conversations import prompt_value
from gptgan_jax.readers.documents import read_lines, read_prompt_rows
from gptgan_jax.readers.files import format_of
from gptgan_jax.readers.row_sources import open_rows
from gptgan_jax.readers.top_k import StoredTopK, write_top_k
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.pretrained import load_generator, load_teacher
from gptgan_jax.runs.trained import Writer
from gptgan_jax.sources.oracle import Oracle
from gptgan_jax.tokenization.chat_templates import Prompt
from gptgan_jax.types import Array, Batch, Params

PROMPT, RESPONSE, ANSWER, FILLED = "prompt", "response", "answer", "filled"
# Responses or texts between two lines of progress.
NEWS_EVERY = 5000

# ---- a config's text


def split_lines(corpus: Corpus, which: str, tokenizer: AnyTokenizer | None = None) -> Iterator[str]:
    """A JSON object for each document of a split; of text for a token store, not only of those in memory.

    Args:
        corpus: the text.
        which: the split.
        tokenizer: of the run, if `data.max_tokens` ends its token store.

    Raises:
        UserError: a corpus of token ids, or without such a split.
    """
    split = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}[which]
    if isinstance(corpus.source, Oracle):
        raise UserError("data.kind oracle generates token ids, not text; use another kind")
    if split is None:
        raise UserError("--split test: this data has no test text of its own; set data.test, or take valid")
    streamed = [one.streamed for one in (corpus, *(part.corpus for part in corpus.parts)) if one.streamed is not None]
    if which == "train" and streamed:
        for one in streamed:
            texts = one.stored(tokenizer) if isinstance(tokenizer, Tokenizer) else one.training()
            yield from (json.dumps({"text": text}, ensure_ascii=False) for text in texts)
        return
    for i, text in enumerate(split.texts):
        row: dict[str, Any] = {"text": text}
        if split.prompts is not None:
            right = {ANSWER: text} if split.answers is None else {RESPONSE: text, ANSWER: split.answers[i]}
            row = {PROMPT: prompt_value(split.prompts[i]), **right}
        if split.labels is not None and split.labels[i] >= 0:
            row["label"] = corpus.classes[split.labels[i]]
        yield json.dumps(row, ensure_ascii=False)


# ---- responses


@dataclass(frozen=True, eq=False)
class Prompts:
    """The rows of a file of prompts.

    Attributes:
        rows: the columns of each row as JSON, `"name": value, "name": value`, with values as in the file.
        texts: the prompt of each row.
        blank: number of blank lines in the file.
    """

    rows: list[str]
    texts: list[Prompt]
    blank: int = 0


@dataclass(frozen=True, eq=False)
class Responder:
    """A generator that answers prompts.

    Attributes:
        run: its configuration, tokenizer and network.
        params: its parameters.
        source: where they come from, in words.
        batch_size: responses generated at once.
    """

    run: Writer
    params: Params
    source: str
    batch_size: int

    @property
    def prompt_column(self) -> str:
        """The name of the column of prompts in its own data."""
        data = self.run.config.data
        return (data.prompts_from or PROMPT) if isinstance(data, HfData) else PROMPT


def load_responder(
    name: str, checkpoint: str, longest_prompt: int | None, longest: int | None, batch_size: int
) -> Responder:
    """A run, or a model, to answer prompts.

    Args:
        name: a run folder, hf:FOLDER, gguf:FILE or hub:NAME.
        checkpoint: of a run, as `Checkpoints.choose` takes it.
        longest_prompt, longest: for a model, in tokens; None for the defaults.
        batch_size: responses generated at once.

    Raises:
        UserError: no such run, checkpoint or model, or a run that was not trained to answer prompts.
    """

    def check(run: Writer) -> None:
        if not run.conditional or run.config.label_prompts:
            raise UserError(f"--prompts is for runs that learned to answer prompts, and {name} did not; drop it")

    return Responder(*load_generator(name, checkpoint, longest_prompt, longest, check=check), batch_size)


def read_prompts(file: Path, column: str, fill: bool = False) -> Prompts:
    """The prompts of a file.

    Args:
        file: JSON lines, .json, .csv, .tsv or .parquet with a column of prompts, each a text or a conversation up to
            the user's last turn. Any other file has one prompt per line.
        column: the name of that column.
        fill: whether filled prompts will be added to the rows, in place of earlier ones.

    Raises:
        UserError: the file can't be read, or lacks the column or any rows, or a prompt is neither.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    name, form = str(file), format_of(file)
    if form is None:
        lines, blank = read_lines(name, name)
        return Prompts([_members({PROMPT: line}) for line in lines], list(lines), blank)
    rows, prompts, blank = read_prompt_rows(open_rows(name, form, None, name, name, False), column)
    members = []
    for number, row in enumerate(rows, 1):
        try:
            members.append(_members(row, (RESPONSE, FILLED) if fill else (RESPONSE,)))
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
            raise UserError(f"{file}, row {number}: can't be handed on: {reason}; drop that column") from None
    return Prompts(members, prompts, blank)


def _members(row: dict[str, Any], without: Collection[str] = (RESPONSE,)) -> str:
    """The members of a row's JSON object, without braces and without earlier ones of the names that will be added."""
    return ", ".join(f"{as_json(name)}: {as_json(value)}" for name, value in row.items() if name not in without)


def responses(
    responder: Responder,
    prompts: Prompts,
    drawing: Drawing,
    seed: int,
    count: int,
    say: Callable[[str], None],
    filling: Filling | None = None,
) -> Iterator[str]:
    """JSON objects, each a prompt's row with a response, in the order of the rows; generated batch by batch.

    Args:
        responder: the generator.
        prompts: N prompts.
        drawing: how responses are sampled.
        seed: equal seeds give equal responses.
        count: responses to each prompt, which are neighbours.
        say: receives one line of output at a time.
        filling: also adds the prompt with its blanks filled by the response, null where that does not fit.
    """
    run, data = responder.run, responder.run.config.data
    encoded = encode_prompts(run.tokenizer, prompts.texts, data.max_prompt_length, data.prompt_keep)
    if prompts.blank:
        say(f"note: {counted(prompts.blank, 'blank line')} skipped")
    for note in _notes(run, encoded):
        say(f"note: {note}")
    asked = [prompt.ids for prompt in encoded for _ in range(count)]
    say(f"generating {counted(len(asked), 'response')} with {responder.source}, {drawing}")
    writer = TextWriter(run.generator, run.tokenizer, run.config.data.max_length, responder.batch_size)
    done = 0
    for written in writer.batches(responder.params, seed, len(asked), drawing, asked):
        for text in written.texts:
            row = [members] if (members := prompts.rows[done // count]) else []
            row.append(f"{as_json(RESPONSE)}: {as_json(text)}")
            if filling is not None:
                row.append(f"{as_json(FILLED)}: {as_json(filling.of(prompts.texts[done // count], text))}")
            yield f"{{{', '.join(row)}}}"
            done += 1
        if done % NEWS_EVERY < len(written.texts) or done == len(asked):
            say(f"{done:,} of {len(asked):,} generated")


def _notes(run: Writer, encoded: Sequence[EncodedPrompt]) -> Iterator[str]:
    unk = getattr(run.tokenizer, "unk_id", None)
    unknown = 0 if unk is None else sum(prompt.ids.count(unk) for prompt in encoded)
    if unknown:
        yield counted(unknown, "unknown word")
    cut = sum(prompt.cut for prompt in encoded)
    if cut:
        yield cut_note(cut, run.config.data.max_prompt_length, run.config.data.prompt_keep)


# ---- a teacher's most likely tokens


def write_likeliest(config: Config, count: int, out: Path, say: Callable[[str], None]) -> str:
    """Writes a teacher's `count` most likely tokens at each token of a configuration's training text.

    Args:
        config: names the text, and the teacher by `objective.estimator`.
        count: K, tokens per position.
        out: the file; see `readers.top_k`.
        say: receives one line of output at a time.

    Returns:
        What was written, in words.

    Raises:
        UserError: no teacher, or one that doesn't fit the text; text for a token store; or a count out of range.
    """
    experiment = load_experiment(config, say=say, make_stores=False)
    train, size = experiment.train, experiment.tokenizer.vocabulary.size
    if train.sources is not None or getattr(config.data, "store", None) is not None:
        raise UserError("--top-k is for text in memory: leave data.store out, and name no data.sources")
    if not 1 <= count <= size:
        raise UserError(f"--top-k {count}: the vocabulary has {size} tokens; give 1 to {size}")
    teacher = load_teacher(config, experiment.tokenizer)
    if teacher is None:
        raise UserError("--top-k needs a teacher: set objective.estimator to {kind: distill, teacher: RUN}")
    params = teacher.start.params()

    @jax.jit
    def likeliest(params: Params, batch: Batch) -> tuple[Array, Array]:
        log_probs = jax.nn.log_softmax(teacher.generator.logits(params, batch).astype(jnp.float32))
        values, ids = jax.lax.top_k(log_probs, count)
        return ids, values

    rows = rows_at_once(config.evaluation.batch_size, len(train), 2 * train.max_length * size)
    found, done = [], 0
    for batch in evaluation_batches(train, rows):
        mask = np.asarray(batch.target_mask)
        found.append(tuple(np.asarray(array)[mask] for array in likeliest(params, batch)))
        done += len(mask)
        if done % NEWS_EVERY < len(mask) and done < len(train):
            say(f"{done:,} of {len(train):,} texts read")
    top_k = StoredTopK(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    prompts = None if train.prompts is None else train.prompts.stored()
    write_top_k(out, top_k, train.targets.stored(), prompts)
    held = np.exp(top_k.log_probs).sum(axis=1).mean()
    return (
        f"{count} tokens at each of {len(train.targets.tokens):,} of {counted(len(train), 'text')}, by "
        f"{teacher.start.source}; they hold {held:.1%} of its probability"
    )
