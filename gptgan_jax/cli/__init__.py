"""The command line: `gptgan COMMAND`, with one file per command or pair of commands.

Bad input prints one line on standard error and exits with status 2. A run that is stopped by a signal is saved, and the
same command resumes it.
"""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import NoReturn

from gptgan_jax.cli.classify import add_classify, add_score
from gptgan_jax.cli.compare import COMPARE, STUDY
from gptgan_jax.cli.compile import COMPILE
from gptgan_jax.cli.completion import add_completion
from gptgan_jax.cli.data import DATA, TOKENIZE, add_init
from gptgan_jax.cli.evaluate import add_evaluate
from gptgan_jax.cli.models import add_export, add_import
from gptgan_jax.cli.report import add_report, add_runs
from gptgan_jax.cli.sample import add_chat, add_sample
from gptgan_jax.cli.train import TRAIN
from gptgan_jax.errors import UserError
from gptgan_jax.system.atomic_files import FULL
from gptgan_jax.system.interruptions import as_process
from gptgan_jax.system.native_log import native_output_apart


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0 for done, 1 for failed, 2 for bad input, 130 for Ctrl-C.

    Without `arguments` it takes those of the process, and a signal ends the whole process within seconds.
    """
    if arguments is None:
        with native_output_apart():
            return as_process(lambda: main(sys.argv[1:]))
    arguments = list(arguments)
    try:
        if arguments and arguments[0] in _WITH_KEYS:
            return _WITH_KEYS[arguments[0]](arguments[1:])
        parser, commands = _parser()
        _check_command(arguments, commands)
        options, keys = parser.parse_known_args(arguments)
        if keys and not getattr(options, "config", None):
            raise UserError(_unrecognized(keys, arguments[0], commands[arguments[0]]))
        return options.command(options, keys) if keys else options.command(options)
    except UserError as error:
        for line in error.lines:
            print(f"gptgan: {line}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough; Python must not flush into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(
            f"gptgan: can't write {error.filename or 'a file'}: {error.strerror}; free some space, and give the same "
            "command again",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("gptgan: interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def _check_command(arguments: Sequence[str], commands: Iterable[str]) -> None:
    """Raises UserError for a first argument that is neither a flag nor a command."""
    name = arguments[0] if arguments else "--help"
    if name.startswith("-") or name in commands:
        return
    near = difflib.get_close_matches(name, commands, n=1)
    raise UserError(
        f"{name[:40]!r} is not a command; "
        + (f"did you mean {near[0]}?" if near else f"the commands are {', '.join(commands)}")
    )


def _unrecognized(arguments: Sequence[str], command: str, parser: argparse.ArgumentParser) -> str:
    """The message for arguments that a command doesn't know, with the flag closest to the first of them."""
    flags = re.findall(r"--[a-z][a-z-]*", parser.format_help())
    near = difflib.get_close_matches(arguments[0].partition("=")[0], flags, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"unrecognized arguments: {' '.join(arguments)}{meant}; see gptgan {command} --help"


_WITH_KEYS = {command.name: command for command in (TRAIN, COMPARE, STUDY, DATA, TOKENIZE, COMPILE)}
_RUN_HELP = "a run folder, such as runs/quickstart"


def _parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser, and the parsers of the commands by name."""
    parser = _Parser(prog="gptgan", description="GPT text GANs in JAX.")
    parser.add_argument("--version", action="version", version=f"gptgan_jax {version('gptgan_jax')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # `main` passes arguments to these commands directly: their overrides are keys of the config, not parser flags.
    for command in _WITH_KEYS.values():
        commands.add_parser(command.name, help=command.summary)
    add_init(commands)
    add_sample(commands, _RUN_HELP)
    add_classify(commands, _RUN_HELP)
    add_score(commands, _RUN_HELP)
    add_chat(commands, _RUN_HELP)
    add_evaluate(commands, _RUN_HELP)
    add_export(commands, _RUN_HELP)
    add_import(commands)
    add_report(commands, _RUN_HELP)
    add_runs(commands)
    add_completion(commands, parser, tuple(_WITH_KEYS.values()))
    return parser, commands.choices
