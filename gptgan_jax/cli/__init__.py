"""The command line: `gptgan COMMAND`, a file a command.

Bad input ends in one line on standard error and exit status 2; a run stopped by a signal is saved, and the same command
goes on with it.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from gptgan_jax.cli.chat import add_chat
from gptgan_jax.cli.classify import add_classify, add_score
from gptgan_jax.cli.evaluate import add_evaluate
from gptgan_jax.cli.export import add_export
from gptgan_jax.cli.import_model import add_import
from gptgan_jax.cli.report import add_report, add_runs
from gptgan_jax.cli.sample import add_sample
from gptgan_jax.errors import UserError
from gptgan_jax.system.interruptions import as_process


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0 for done, 1 for failed, 2 for bad input, 130 for Ctrl-C.

    Without arguments it is those of this process, which has nothing else to do, and which Ctrl-C ends in time.
    """
    if arguments is None:
        return as_process(lambda: main(sys.argv[1:]))
    arguments = list(arguments)
    try:
        if arguments and arguments[0] in _WITH_KEYS:
            return _WITH_KEYS[arguments[0]](arguments[1:])
        parser, commands = _parser()
        _check_command(arguments, commands)
        options, keys = parser.parse_known_args(arguments)
        if keys and not getattr(options, "config", None):
            raise UserError(f"unrecognized arguments: {' '.join(keys)}; see gptgan {arguments[0]} --help")
        return options.command(options, keys) if keys else options.command(options)
    except UserError as error:
        print(f"gptgan: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough; Python must not flush into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("gptgan: interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def _check_command(arguments: Sequence[str], commands: Sequence[str]) -> None:
    """Raises UserError for a first argument that is neither a flag nor a command."""
    name = arguments[0] if arguments else "--help"
    if name.startswith("-") or name in commands:
        return
    near = difflib.get_close_matches(name, commands, n=1)
    raise UserError(
        f"{name[:40]!r} is no command; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(commands)}")
    )


def _parser() -> tuple[argparse.ArgumentParser, Sequence[str]]:
    """The parser, and the names of the commands."""
    parser = _Parser(prog="gptgan", description="GPT text GANs in JAX.")
    parser.add_argument("--version", action="version", version=f"gptgan_jax {version('gptgan_jax')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # `main` hands the arguments of these on by itself: their overrides are keys of the config, not flags of a parser.
    commands.add_parser("train", help="train the run that a config describes, or go on with it; train --help: all keys")
    commands.add_parser("compare", help="train several adversarial methods from one likelihood training, and compare")
    commands.add_parser("data", help="write the text of a config into a file: prompts for a teacher, say")
    commands.add_parser("tokenize", help="make the token store of a config, for text that is too much for memory")
    commands.add_parser("compile", help="compile a run for TPUs that need not be there: memory, FLOP, step time")

    run_help = "a run folder, such as runs/quickstart"
    add_sample(commands, run_help)
    add_classify(commands, run_help)
    add_score(commands, run_help)
    add_chat(commands, run_help)
    add_evaluate(commands, run_help)
    add_export(commands, run_help)
    add_import(commands)
    add_report(commands, run_help)
    add_runs(commands)
    return parser, tuple(commands.choices)


def _compile(arguments: Sequence[str]) -> int:
    from gptgan_jax.cli.compile import run

    return run(arguments)


def _train(arguments: Sequence[str]) -> int:
    from gptgan_jax.cli.train import train

    return train(arguments)


def _compare(arguments: Sequence[str]) -> int:
    from gptgan_jax.cli.compare import compare

    return compare(arguments)


def _data(arguments: Sequence[str]) -> int:
    from gptgan_jax.cli.data import write_data

    return write_data(arguments)


def _tokenize(arguments: Sequence[str]) -> int:
    from gptgan_jax.cli.data import tokenize

    return tokenize(arguments)


_WITH_KEYS = {"train": _train, "compare": _compare, "data": _data, "tokenize": _tokenize, "compile": _compile}
