"""`gptgan data`: the text of a config as JSON lines; `gptgan tokenize`: its token store, made without training."""

import sys
from collections.abc import Sequence
from pathlib import Path

from gptgan_jax.config import Config
from gptgan_jax.config.files import load_config
from gptgan_jax.data.config import SPLITS
from gptgan_jax.data.corpora import counted, load_corpus
from gptgan_jax.data.holding_out import note_line
from gptgan_jax.errors import UserError
from gptgan_jax.system.atomic_files import whole_file
from gptgan_jax.system.terminal import say, taken
from gptgan_jax.workflows.distillation import split_lines

_HELP = """usage: gptgan data CONFIG [--split train|valid|test] [--out FILE] [--key.path value ...]

Without --split: what the text comes to, with the notes that a run begins with, and trains nothing. Of each source (of a
mixture, data.sources) it tells the weight, the documents and tokens to train on, the held-out texts, and how often
likelihood training will go through it. No token store is written: its tokens are estimated.

With --split: writes the text of a config as JSON lines, as it would be trained with, validated or tested: each with a
"prompt" (a text, or a list of messages) and its "answer" (and the "response" to learn, where that is another), or with
a "text" alone, and its "label" if it has one.

--data.seed draws other text of a source that is drawn. Keys are those of gptgan train --help.
"""


def write_data(arguments: Sequence[str]) -> int:
    """The command `gptgan data` with its arguments; 0.

    Raises:
        UserError: arguments that make no sense, text that can't be read, or a file that can't be written.
    """
    if "-h" in arguments or "--help" in arguments:
        print(_HELP, end="")
        return 0
    if not arguments or arguments[0].startswith("-"):
        raise UserError("give a config first: gptgan data CONFIG [--split train] [--key.path value ...]; see --help")
    which, rest = taken(arguments[1:], "--split")
    out, overrides = taken(rest, "--out")
    if which is None and out is None:
        return _tell(load_config(arguments[0], overrides))
    if which not in SPLITS:
        raise UserError(f"--split {which or ''} should be one of {', '.join(SPLITS)}")
    config = load_config(arguments[0], overrides)
    corpus = load_corpus(config.data)
    lines = list(split_lines(corpus, which))
    if out is None:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return 0
    path = Path(out)
    if not out or path.is_dir():
        raise UserError(f"--out {out}: give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.writelines(f"{line}\n".encode() for line in lines)
    except OSError as error:
        raise UserError(f"--out {out}: can't be written ({error.strerror}); give another") from None
    for note in corpus.notes:
        print(note_line(note), file=sys.stderr)
    print(f"kept: {out}, {counted(len(lines), 'line')}")
    return 0


def _tell(config: Config) -> int:
    """Prints what the text of a config comes to."""
    from gptgan_jax.mixtures.plan import table
    from gptgan_jax.runs.experiment import load_experiment

    experiment = load_experiment(config, say=say, make_stores=False)
    for note in experiment.notes:
        say(note_line(note))
    if getattr(config.data, "store", None) is not None:
        say("note: tokens are estimated from the text in memory; gptgan tokenize counts them, and writes the store")
    print("\n".join(table(experiment.plan)))
    return 0


_TOKENIZE_HELP = """usage: gptgan tokenize CONFIG [--key.path value ...]

Writes the token store that a config names (data.store), or opens it where it is whole, and prints what is in it. The
run's own start does the same; this does it alone, on a machine without an accelerator, say. Keys are those of
gptgan train --help.
"""


def tokenize(arguments: Sequence[str]) -> int:
    """The command `gptgan tokenize` with its arguments; 0.

    Raises:
        UserError: a config without a store, text that can't be read, or a folder that can't be written.
    """
    if "-h" in arguments or "--help" in arguments:
        print(_TOKENIZE_HELP, end="")
        return 0
    if not arguments or arguments[0].startswith("-"):
        raise UserError("give a config first: gptgan tokenize CONFIG [--key.path value ...]; see --help")
    config = load_config(arguments[0], arguments[1:])
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
