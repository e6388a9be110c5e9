"""`gptgan completion`: a script that completes commands, flags and config keys in a shell."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptgan_jax.cli.config_commands import ConfigCommand
from gptgan_jax.config.help import every_key

SHELLS = ("bash", "zsh")
_INSTALL = {
    "bash": "put `source <(gptgan completion bash)` in ~/.bashrc",
    "zsh": 'run gptgan completion zsh > "${fpath[1]}/_gptgan" and start a new shell',
}


def add_completion(commands: Any, root: argparse.ArgumentParser, with_configs: Sequence[ConfigCommand]) -> None:
    """Adds the command to a parser's.

    Args:
        commands: the parser's subparsers.
        root: the whole parser, which is completed.
        with_configs: the commands that the parser knows only by name, without their flags.
    """
    completion = commands.add_parser(
        "completion",
        help="print a script that completes commands, flags and keys in bash or zsh",
        description="; ".join(f"{shell}: {how}" for shell, how in _INSTALL.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    completion.add_argument("shell", choices=SHELLS)

    def run(options: argparse.Namespace) -> int:
        import shtab

        for command in with_configs:
            _describe(command, commands.choices[command.name])
        _complete_paths(root)
        for parser in commands.choices.values():
            _complete_paths(parser)
        print(shtab.complete(root, options.shell, preamble=""))
        return 0

    completion.set_defaults(command=run)


def _describe(command: ConfigCommand, parser: argparse.ArgumentParser) -> None:
    """Gives a parser the flags of a command, and every key of a config."""
    parser.add_argument(
        "config", type=Path, metavar=command.file, help="a YAML file, or the name of one of the project's configs"
    )
    for flag in command.flags:
        if flag.value:
            parser.add_argument(flag.name, metavar=flag.value, choices=flag.choices or None, help=flag.meaning)
        else:
            parser.add_argument(flag.name, action="store_true", help=flag.meaning)
    for key in every_key():
        parser.add_argument(f"--{key.name}", choices=key.options or None, help=key.meaning)


def _complete_paths(parser: argparse.ArgumentParser) -> None:
    """Completes files and folders for arguments that are paths."""
    import shtab

    for action in parser._actions:
        if action.type is Path and not hasattr(action, "complete"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
