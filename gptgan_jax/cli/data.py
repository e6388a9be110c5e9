"""`gptgan data`: the text of a config as JSON lines."""

import sys
from collections.abc import Sequence
from pathlib import Path

from gptgan_jax.config.files import load_config
from gptgan_jax.data.config import SPLITS
from gptgan_jax.data.corpora import counted, load_corpus
from gptgan_jax.data.holding_out import note_line
from gptgan_jax.errors import UserError
from gptgan_jax.system.atomic_files import whole_file
from gptgan_jax.system.terminal import taken
from gptgan_jax.workflows.distillation import split_lines

_HELP = """usage: gptgan data CONFIG --split train|valid|test [--out FILE] [--key.path value ...]

Writes the text of a config as JSON lines, as it would be trained with, validated or tested: each with a "prompt" (a
text, or a list of messages) and its "answer" (and the "response" to learn, where that is another), or with a "text"
alone, and its "label" if it has one. --data.seed draws other text of a source that is drawn. Keys are those of
gptgan train --help.
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
        raise UserError("give a config first: gptgan data CONFIG --split train [--key.path value ...]; see --help")
    which, rest = taken(arguments[1:], "--split")
    out, overrides = taken(rest, "--out")
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
