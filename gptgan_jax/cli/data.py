"""`gptgan data`: summarise the text of a config, or write it as JSON lines; `gptgan tokenize`: make its token store
without training; `gptgan init`: write a config for a file."""

import argparse
import sys
from pathlib import Path
from typing import Any

from gptgan_jax.cli.config_commands import ConfigCommand, Flag, Given
from gptgan_jax.cli.train import count_from
from gptgan_jax.config import Config
from gptgan_jax.config.files import load_config
from gptgan_jax.data.config import SPLITS
from gptgan_jax.data.corpora import counted, load_corpus
from gptgan_jax.data.holding_out import note_line
from gptgan_jax.errors import UserError
from gptgan_jax.system.terminal import check_new_file, say, write_lines

# The most tokens of a teacher at each position.
MOST_LIKELY = 10_000

_DESCRIPTION = """
Without --split: summarises the text, with the notes that a run would begin with. For each source (of a mixture,
data.sources) it prints the weight, the documents and tokens to train on, the held-out texts, and the number of passes
that likelihood training will make. Nothing is trained, and no token store is written: its tokens are estimated.

With --split: writes the text of a config as JSON lines, exactly as a run would train on, validate or test with it. Each
line has a "prompt" (a text, or a list of messages) and its "answer" (and the "response" to learn, if that differs), or
only a "text"; and a "label" if there is one.

With --top-k K: writes the K most likely tokens of the teacher that objective.estimator names, at each token of the
training text, for objective.estimator.top_k_file (docs/distillation.md).

If the text is sampled (grammar, oracle), --data.seed gives different text. Keys are those of gptgan train --help."""


def _data(given: Given) -> int:
    from gptgan_jax.workflows.distillation import split_lines, write_likeliest

    which, out = given.value("--split"), given.value("--out")
    count = count_from("--top-k", given.value("--top-k"), MOST_LIKELY)
    if count is not None:
        if which is not None or out is None:
            raise UserError("--top-k writes a file for the training text: give --out, and no --split")
        check_new_file("--out", Path(out))
        print(f"saved: {out}, {write_likeliest(load_config(given.file, given.overrides), count, Path(out), say)}")
        return 0
    if which is None and out is None:
        return _tell(load_config(given.file, given.overrides))
    if which not in SPLITS:
        raise UserError(f"--split {which or ''} should be one of {', '.join(SPLITS)}")
    path = None if out is None else Path(out)
    config = load_config(given.file, given.overrides)
    check_new_file("--out", path)
    tokenizer = None
    if which == "train" and getattr(config.data, "max_tokens", None) is not None:
        from gptgan_jax.runs.experiment import load_experiment

        experiment = load_experiment(config, say=say, make_stores=False)
        corpus, tokenizer = experiment.corpus, experiment.tokenizer
    else:
        corpus = load_corpus(config.data, train_answers=which == "train", kept=False)
    count = write_lines(split_lines(corpus, which, tokenizer), path)
    if path is not None:
        for note in corpus.notes:
            print(note_line(note), file=sys.stderr)
        print(f"saved: {path}, {counted(count, 'line')}")
    return 0


def _tell(config: Config) -> int:
    """Prints a summary of the text of a config."""
    from gptgan_jax.runs.experiment import load_experiment
    from gptgan_jax.workflows.preview import text_lines

    print("\n".join(text_lines(load_experiment(config, say=say, make_stores=False), say)))
    return 0


_TOKENIZE_DESCRIPTION = """
Writes the token store of a config (data.store), or opens it if it is complete, and prints what it holds. A run does the
same when it starts; this command does only that, for example on a machine without an accelerator. Keys are those of
gptgan train --help."""


def _tokenize(given: Given) -> int:
    config = load_config(given.file, given.overrides)
    if getattr(config.data, "store", None) is None:
        raise UserError("data.store names no folder for the tokens; give one: --data.store FOLDER")

    from gptgan_jax.data.packing import stored_rows
    from gptgan_jax.mixtures.plan import table
    from gptgan_jax.runs.experiment import load_experiment

    experiment, data = load_experiment(config, say=say, bar=sys.stderr), config.data
    packed = config.likelihood.packing, experiment.generator.vocabulary, data.max_length, data.attend_across
    for note in experiment.notes:
        say(note_line(note))
    for store in experiment.stores:
        rows = len(stored_rows(store, *packed, say))
        print(f"{store.folder}: {store.documents:,} documents, {len(store):,} tokens of {store.dtype.itemsize} bytes")
        print(
            f"{len(store) / store.documents:,.1f} tokens per document, {rows:,} rows of {data.max_length} tokens, "
            f"{len(store) / rows / data.max_length:.1%} full"
        )
    if experiment.corpus.parts:
        print("\n".join(table(experiment.plan)))
    return 0


DATA = ConfigCommand(
    "data",
    "summarise the text of a config, or write it to a file, for example as prompts for a teacher",
    _DESCRIPTION,
    (
        Flag("--split", "write this split as JSON lines", "NAME", choices=SPLITS),
        Flag("--top-k", "write the teacher's K most likely tokens at each position; needs --out", "K"),
        Flag("--out", "file for the lines (default: print)", "FILE"),
    ),
    _data,
)
TOKENIZE = ConfigCommand(
    "tokenize",
    "make the token store of a config, for text that does not fit into memory",
    _TOKENIZE_DESCRIPTION,
    (),
    _tokenize,
)


def add_init(commands: Any) -> None:
    """Adds the command to a parser's."""
    init = commands.add_parser(
        "init",
        help="write a config for a file of text, with fitting sizes and comments",
        description="Examines a file (spaces, columns, lengths, size) and writes a config that trains on it.",
        allow_abbrev=False,
    )
    init.add_argument("file", type=Path, help="one text per line, or .jsonl, .csv, .tsv or .parquet with columns")
    init.add_argument("--out", type=Path, help="the config (default: NAME.yaml in this folder, for a file NAME.*)")
    init.add_argument("--text-column", metavar="NAME", help="the column to learn (default: by names and contents)")
    init.add_argument("--prompt-column", metavar="NAME", help="the column that the text answers")
    init.set_defaults(command=_init)


def _init(options: argparse.Namespace) -> int:
    from gptgan_jax.workflows.first_config import write_first_config

    path, told = write_first_config(options.file, options.out, options.text_column, options.prompt_column)
    for line in told:
        print(line)
    print(f"saved: {path}    train it: gptgan train {path}    look first: gptgan train {path} --dry-run")
    return 0
