"""A first config for a file of text, whose content determines tokenizer, lengths, sizes and steps (`gptgan init`)."""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from gptgan_jax.config.checking import config_from
from gptgan_jax.data.config import CONVERSATION_COLUMNS, HfData, TextData
from gptgan_jax.data.corpora import Corpus, counted, load_corpus
from gptgan_jax.data.prompts import encode_prompts
from gptgan_jax.data.tokenizers import (
    BpeTokenizer,
    CharacterTokenizer,
    IdsTokenizer,
    Tokenizer,
    TokenizerConfig,
    WordTokenizer,
    fit_tokenizer,
)
from gptgan_jax.errors import UserError
from gptgan_jax.readers.cells import shown
from gptgan_jax.readers.conversations import SYSTEM_COLUMNS, is_conversation
from gptgan_jax.readers.files import format_of, utf8_lines
from gptgan_jax.readers.roles import roles_of
from gptgan_jax.readers.row_sources import open_rows
from gptgan_jax.runs.records import one_line
from gptgan_jax.runs.text_alarms import MOST_BROKEN, broken_share
from gptgan_jax.system.atomic_files import write_whole
from gptgan_jax.system.terminal import check_new_file
from gptgan_jax.tokenization.chat_templates import prompt_text
from gptgan_jax.tokenization.token_ids import TokenIds
from gptgan_jax.tokenization.units import spacing_of

# Columns that hold a further part of the prompt in the formats of Alpaca and Open-Orca.
ASIDE = ("input", "context", "history", "system", "system_prompt")
# Texts and rows that are inspected, and the most characters in a line of wrapped prose.
LOOKED_AT, ROWS, WRAPPED = 20_000, 200, 100
FEWEST = 20
# The share of held-out words that may be unknown to a word-level tokenizer.
MOST_UNKNOWN = 0.02
LONGEST = 256


class Size(NamedTuple):
    """Networks and steps up to an amount of text: the networks of presets that were measured on as much."""

    tokens: float
    layers: int
    width: int
    heads: int
    dropout: float
    epochs: int
    learning_rate: float


SIZES = (
    Size(3e5, 2, 64, 4, 0.2, 20, 3e-3),
    Size(3e6, 3, 192, 6, 0.2, 10, 2e-3),
    Size(3e7, 6, 256, 8, 0.1, 5, 1e-3),
    Size(math.inf, 8, 512, 8, 0.0, 2, 5e-4),
)


class Found(NamedTuple):
    """The content of a file.

    Attributes:
        data: its keys of the section `data`.
        tokenizer: its keys of the section `tokenizer`.
        rows: number of training texts, or of windows of them.
        tokens: number of training tokens.
        length, prompt_length: the lengths in tokens, ends included, up to which texts and prompts stay whole.
        longer: how many texts are longer, and what happens to them, in words; "" if none is.
        told: a line on each finding.
    """

    data: dict[str, Any]
    tokenizer: dict[str, Any]
    rows: float
    tokens: float
    length: int
    prompt_length: int | None
    longer: str
    told: list[str]


def write_first_config(
    file: Path, out: Path | None, text_column: str | None = None, prompt_column: str | None = None
) -> tuple[Path, list[str]]:
    """Inspects a file and writes a config that trains on it.

    Args:
        file: of lines or paragraphs of text, or of rows.
        out: the config; by default NAME.yaml in the working directory.
        text_column, prompt_column: for rows, the text to learn and what it answers; by default found by names and
            contents.

    Returns: the config's path, and a line on each finding.

    Raises:
        UserError: the file can't be read or has too little text, or the config exists.
    """
    path = Path(f"{_plain(file)}.yaml") if out is None else out
    check_new_file("--out", path, file)
    if path.exists():
        raise UserError(f"{path} exists; give another name with --out")
    found = look_at(file, text_column, prompt_column)
    text = config_text(found, file)
    config_from({"name": path.stem, **yaml.safe_load(text)}, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
    return path, found.told


def look_at(file: Path, text_column: str | None = None, prompt_column: str | None = None) -> Found:
    """The content of a file, and what suits it; see `write_first_config`.

    Raises:
        UserError: it can't be read, or has too little text to train on.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; give a file of text, or of rows (.jsonl, .csv, .tsv, .parquet)")
    told: list[str] = []
    if format_of(file) is not None:
        data = _rows(file, told, text_column, prompt_column)
    elif text_column is None and prompt_column is None:
        data = _lines(file, told)
    else:
        raise UserError(f"{file}: text has no columns; leave --text-column and --prompt-column out")
    section = HfData(**data) if data["kind"] == "hf" else TextData(**data)
    try:
        corpus = load_corpus(section)
    except UserError as error:
        raise error.within(str(file)) from None
    if len(corpus.train) < FEWEST:
        raise UserError(f"{file}: {counted(len(corpus.train), 'text')} to train on; a run needs {FEWEST} or more")
    tokenizer = _tokenizer(corpus, told)
    fitted = fit_tokenizer(tokenizer, corpus)
    assert isinstance(fitted, Tokenizer)
    some = corpus.train.texts[:: max(len(corpus.train) // LOOKED_AT, 1)]
    lengths = np.array([len(ids) + 1 for ids in fitted.encode_batch(list(some))])
    held_out = [text for split in (corpus.valid, corpus.test) if split is not None for text in split.texts]
    longest = max(int(lengths.max()), *(len(ids) + 1 for ids in fitted.encode_batch(held_out)))
    tokens, usual = float(lengths.mean()) * len(corpus.train), _nearly_all(lengths)
    # A few long texts would make every batch wide; but if the longest is only slightly longer, it stays whole.
    length, prompt_length = min(longest if longest <= 1.5 * usual else usual, LONGEST), None
    rows, longer = float(len(corpus.train)), ""
    if length < longest:
        longer = f"{(lengths > length).mean():.1%} of texts are longer, and "
        longer += "cut off" if corpus.train.prompts is not None else "split into windows"
        if corpus.train.prompts is None:
            rows *= float(np.ceil(lengths / length).mean())
    told.append(
        f"{counted(len(corpus.train), 'text')} to train on, about {tokens:,.0f} tokens; 99 % of texts have at most "
        f"{usual}, the longest has {longest}"
    )
    if corpus.train.prompts is not None:
        asked = encode_prompts(fitted, list(corpus.train.prompts[:LOOKED_AT]), 10**6, "end")
        prompt_length = min(_nearly_all([len(one.ids) for one in asked]), LONGEST)
        told.append(f"prompts: 99 % have at most {_nearly_all([len(one.ids) for one in asked])} tokens")
    keys: dict[str, Any] = {"kind": tokenizer.kind}
    if isinstance(tokenizer, BpeTokenizer):
        keys["vocab_size"] = tokenizer.vocab_size
    # Names of columns and files may have line breaks, after which a comment of the config would be a key.
    return Found(data, keys, rows, tokens, length, prompt_length, longer, [one_line(line) for line in told])


def _plain(file: Path) -> str:
    """The file's name without extensions, as a valid name of a run."""
    return re.sub(r"[^\w.-]+", "_", file.name.split(".")[0]) or "mine"


def _lines(file: Path, told: list[str]) -> dict[str, Any]:
    """A file of text, with a document per line, or per paragraph if its lines are prose with blank lines between."""
    lines = list(islice(utf8_lines(str(file)), LOOKED_AT))
    filled = [line.rstrip("\n") for line in lines if line.strip()]
    blank = 1 - len(filled) / max(len(lines), 1)
    wrapped = bool(filled) and max(map(len, filled)) <= WRAPPED and blank > 0.05
    document = "paragraph" if wrapped and blank < 0.45 else "line"
    told.append(f"{file}: text, one document per {document}")
    return {"kind": "text", "train": str(file), **({"document": document} if document != "line" else {})}


def _rows(file: Path, told: list[str], text_column: str | None, prompt_column: str | None) -> dict[str, Any]:
    """A file of rows: its columns of text and prompts, as given, or found by their names and contents."""
    form = format_of(file)
    _check_delimiter(file)
    rows = open_rows(str(file), form or "json", None, str(file), "train", False)
    some = [row for _, row in islice(rows.start(None), ROWS) if row is not None]
    columns = list(rows.columns())
    for name in (text_column, prompt_column):
        if name is not None and name not in columns:
            raise UserError(f"{file}: no column {name}; there are: {', '.join(columns)}")
    if text_column is None and prompt_column is not None:
        raise UserError("--prompt-column names what a text answers: give --text-column too")
    data: dict[str, Any] = {"kind": "hf", "path": form, "train": str(file)}
    told.append(f"{file}: {form} with the columns {', '.join(columns)}")
    talks = [name for name in CONVERSATION_COLUMNS if any(is_conversation(row.get(name)) for row in some)]
    text, prompt, others, sure = roles_of(columns, some)
    if text_column is not None:
        text, prompt, others, sure = text_column, prompt_column, (), True
    elif talks:
        text, prompt, others, sure = talks[0], None, (), True
    if text is None:
        raise UserError(f"{file}: none of its columns {', '.join(columns)} holds texts to learn; name one that does")
    if not sure:
        choices = ", ".join(name for name in columns if name in (text, prompt, *others))
        raise UserError(
            f"{file}: which of its columns {choices} is the text to learn? Give --text-column NAME"
            f"{f' (and --prompt-column {prompt}, if it answers that)' if prompt else ''}"
        )
    if any(is_conversation(row.get(text)) for row in some):
        told.append(
            f"conversations in {text}: the assistant's last turn is learned, as the answer to those before it "
            "(data.assistant_turns all: every turn of the assistant's)"
        )
        if system := [name for name in SYSTEM_COLUMNS if name in columns]:
            told.append(f"{' and '.join(system)}: the system turn of conversations that have none")
    else:
        told.append(f"{text} is learned{f', as the answer to {prompt}' if prompt else ''}")
        filled = [name for name in columns if name.lower() in ASIDE and any(row.get(name) for row in some)]
        if prompt and (unread := [name for name in filled if name not in (text, prompt)]):
            told.append(
                f"{' and '.join(unread)}: not read; what an answer depends on must stand in the prompt's column"
            )
        elif others:
            told.append(f"{', '.join(others)}: left out; --text-column and --prompt-column name other columns")
    return data | {"text_column": text, **({"prompt_column": prompt} if prompt else {})}


def _check_delimiter(file: Path) -> None:
    """Raises UserError if the header of a csv or tsv file is one column, but seems to have another delimiter."""
    delimiter = {"csv": ",", "tsv": "\t"}.get(format_of(file) or "", "")
    header = next(utf8_lines(str(file)), "").strip() if delimiter else ""
    others = [other for other in ",;\t|" if delimiter and other != delimiter and other in header]
    if others and delimiter not in header:
        raise UserError(
            f"{file}: its header {shown(header)} is one column, and {shown(others[0])} seems to part several; write "
            "commas between cells, or tabs in a .tsv file"
        )


def _tokenizer(corpus: Corpus, told: list[str]) -> TokenizerConfig:
    """Ids for lists of numbers; characters without spaces between words; words if nearly all held-out ones are known
    and texts have no line breaks; otherwise byte pairs."""
    if isinstance(corpus.train.texts[0], TokenIds):
        told.append("lists of whole numbers: token ids")
        return IdsTokenizer()
    asked = [prompt_text(prompt) for prompt in (corpus.train.prompts or ())[:LOOKED_AT]]
    if spacing_of(corpus.train.texts, asked).unit == "character":
        told.append("no spaces between words: one token per character")
        return CharacterTokenizer()
    words = fit_tokenizer(WordTokenizer(), corpus)
    held_out = list(corpus.valid.texts[:LOOKED_AT])
    unknown = sum(len(words.unknown_words(text)) for text in held_out)
    share = unknown / max(sum(len(text.split()) for text in held_out), 1)
    broken = broken_share(corpus.train.texts)
    seen = f"spaces between words, {share:.1%} of held-out words unknown"
    if broken >= MOST_BROKEN:
        seen += f", line breaks in {broken:.0%} of texts, which tokens of words would lose"
    elif share <= MOST_UNKNOWN:
        told.append(f"{seen}: a token is a word")
        return WordTokenizer()
    # A learned token for fifty characters at most: a vocabulary of rare pieces is not learned.
    characters = sum(map(len, corpus.train.texts))
    size = min(2000 if len(corpus.train) < 20_000 else 8000, 300 + round(characters // 50, -2))
    told.append(f"{seen}: a token is a piece of a word (BPE, {size})")
    return BpeTokenizer(vocab_size=size)


def _nearly_all(lengths: Sequence[int] | np.ndarray) -> int:
    return max(math.ceil(float(np.quantile(lengths, 0.99))), 2)


# ---- the config


def config_text(found: Found, file: Path) -> str:
    """The config as YAML, with a comment on each choice."""
    size = next(size for size in SIZES if found.tokens <= size.tokens)
    steps = min(max(round(size.epochs * found.rows / 64), 200), 20_000)
    warmup, adversarial = min(max(steps // 5, 100), 2000), 100
    rate = size.learning_rate
    positions = 2 ** math.ceil(math.log2(1 + found.length + (found.prompt_length or 32)))
    lengths = [f"  max_length: {found.length}  # tokens; {found.longer or 'no text is longer'}"]
    if found.prompt_length is not None:
        lengths.append(f"  max_prompt_length: {found.prompt_length}  # tokens; longer prompts keep their end")
    return "\n".join(
        [
            f"# Made by gptgan init {one_line(file.name)}.",
            *(f"# {line}" for line in found.told[1:]),
            "#",
            "# Any key can be set on the command line (--likelihood.steps 500); gptgan train --help lists all of them.",
            "data:",
            *_section(found.data),
            *lengths,
            "tokenizer:",
            *_section(found.tokenizer),
            f"generator: &network  # size chosen by the text: {size.layers} layers for up to {_tokens(size)} tokens",
            "  kind: transformer",
            f"  layers: {size.layers}",
            f"  width: {size.width}",
            f"  heads: {size.heads}",
            f"  max_positions: {positions}",
            "  norm: rms",
            "  activation: swiglu",
            f"  mlp_width: {2 * size.width}",
            "  positions: rotary",
            "  qkv_bias: false",
            "  bias: false",
            f"  dropout: {size.dropout}",
            "discriminator:  # the same size as the generator",
            "  <<: *network",
            "objective:  # as in configs/recommended.yaml",
            "  pair_loss: non_saturating",
            "  dense: false",
            "  reward: logit",
            "  estimator: {kind: reinforce, discount: 1.0, baseline: leave_one_out}",
            "  kl_weight: 1.0",
            "  kl_estimator: reward",
            "  next_token_weight: 1.0",
            # The residual model has no likelihood for a text that is split into windows.
            *(
                ["  residual_candidates: 8  # resampling too"]
                if found.prompt_length is None and not found.longer
                else []
            ),
            f"likelihood:  # {size.epochs} times through the text, within 200 to 20,000 steps",
            f"  steps: {steps}",
            "  batch_size: 64",
            f"  optimizer: {{learning_rate: {rate:.1e}, warmup_steps: 50, schedule: cosine, weight_decay: 0.01}}",
            "warmup:  # of the discriminator",
            f"  steps: {warmup}",
            "  batch_size: 64",
            f"  optimizer: {{learning_rate: {rate / 3:.1e}, warmup_steps: 50, schedule: cosine}}",
            "adversarial:",
            f"  steps: {adversarial}",
            "  batch_size: 128",
            f"  generator_optimizer: {{learning_rate: {rate / 10:.1e}, warmup_steps: 10, schedule: cosine}}",
            "  discriminator_optimizer: {learning_rate: 1.0e-4}",
            "evaluation:",
            f"  every: {max(steps // 10, 20)}",
            "  max_texts: 1000",
            "  samples: 1000",
            "",
        ]
    )


def _tokens(size: Size) -> str:
    return "any number of" if math.isinf(size.tokens) else f"{size.tokens:,.0f}"


def _section(keys: dict[str, Any]) -> Iterator[str]:
    """The keys as lines of YAML, indented below a section's name."""
    return (f"  {line}" for line in yaml.safe_dump(keys, sort_keys=False).rstrip("\n").split("\n"))
