"""`gptgan data`: the text of a config, told of or as JSON lines; `gptgan tokenize`: its token store, made without
training; `gptgan init`: a config for a file."""

import argparse
import sys
from pathlib import Path
from typing import Any

from gptgan_jax.cli.config_commands import ConfigCommand, Flag, Given
from gptgan_jax.config import Config
from gptgan_jax.config.files import load_config
from gptgan_jax.data.config import SPLITS
from gptgan_jax.data.corpora import counted, load_corpus
from gptgan_jax.data.holding_out import note_line
from gptgan_jax.errors import UserError
from gptgan_jax.system.terminal import check_new_file, say, write_lines

_DESCRIPTION = """
Without --split: what the text comes to, with the notes that a run begins with, and trains nothing. Of each source (of a
mixture, data.sources) it tells the weight, the documents and tokens to train on, the held-out texts, and how often
likelihood training will go through it. No token store is written: its tokens are estimated.

With --split: writes the text of a config as JSON lines, as it would be trained with, validated or tested: each with a
"prompt" (a text, or a list of messages) and its "answer" (and the "response" to learn, where that is another), or with
a "text" alone, and its "label" if it has one.

--data.seed draws other text of a source that is drawn. Keys are those of gptgan train --help."""


def _data(given: Given) -> int:
    from gptgan_jax.workflows.distillation import split_lines

    which, out = given.value("--split"), given.value("--out")
    if which is None and out is None:
        return _tell(load_config(given.file, given.overrides))
    if which not in SPLITS:
        raise UserError(f"--split {which or ''} should be one of {', '.join(SPLITS)}")
    path = None if out is None else Path(out)
    config = load_config(given.file, given.overrides)
    check_new_file("--out", path)
    corpus = load_corpus(config.data)
    count = write_lines(split_lines(corpus, which), path)
    if path is not None:
        for note in corpus.notes:
            print(note_line(note), file=sys.stderr)
        print(f"kept: {path}, {counted(count, 'line')}")
    return 0


def _tell(config: Config) -> int:
    """Prints what the text of a config comes to."""
    from gptgan_jax.runs.experiment import load_experiment
    from gptgan_jax.workflows.preview import text_lines

    print("\n".join(text_lines(load_experiment(config, say=say, make_stores=False), say)))
    return 0


_TOKENIZE_DESCRIPTION = """
Writes the token store that a config names (data.store), or opens it where it is whole, and prints what is in it. The
run's own start does the same; this does it alone, on a machine without an accelerator, say. Keys are those of
gptgan train --help."""


def _tokenize(given: Given) -> int:
    config = load_config(given.file, given.overrides)
    if getattr(config.data, "store", None) is None:
        raise UserError("data.store names no folder for the tokens; give one: --data.store FOLDER")

    from gptgan_jax.mixtures.plan import table
    from gptgan_jax.runs.experiment import load_experiment

    experiment = load_experiment(config, say=say, bar=sys.stderr)
    for note in experiment.notes:
        say(note_line(note))
    for store in experiment.stores:
        rows, width = -(-len(store) // config.data.max_length), store.dtype.itemsize
        print(f"{store.folder}: {store.documents:,} documents, {len(store):,} tokens of {width} bytes")
        print(
            f"{len(store) / store.documents:,.1f} tokens a document, {rows:,} rows of {config.data.max_length} tokens"
        )
    if experiment.corpus.parts:
        print("\n".join(table(experiment.plan)))
    return 0


DATA = ConfigCommand(
    "data",
    "tell what the text of a config comes to, or write it into a file: prompts for a teacher, say",
    _DESCRIPTION,
    (
        Flag("--split", "which text is written as JSON lines", "NAME", choices=SPLITS),
        Flag("--out", "a file for the lines (default: print)", "FILE"),
    ),
    _data,
)
TOKENIZE = ConfigCommand(
    "tokenize",
    "make the token store of a config, for text that is too much for memory",
    _TOKENIZE_DESCRIPTION,
    (),
    _tokenize,
)


def add_init(commands: Any) -> None:
    """Adds the command to a parser's."""
    init = commands.add_parser(
        "init",
        help="look at a file of text and write a config for it, sized and commented",
        description="Looks at a file (spaces, columns, lengths, size) and writes a config that trains on it.",
        allow_abbrev=False,
    )
    init.add_argument("file", type=Path, help="a text a line, or .jsonl, .csv, .tsv or .parquet with columns")
    init.add_argument("--out", type=Path, help="the config (default: NAME.yaml in this folder, NAME being the file's)")
    init.set_defaults(command=_init)


def _init(options: argparse.Namespace) -> int:
    from gptgan_jax.workflows.first_config import write_first_config

    path, told = write_first_config(options.file, options.out)
    for line in told:
        print(line)
    print(f"kept: {path}    train it: gptgan train {path}    look first: gptgan train {path} --dry-run")
    return 0
