"""Shared by the commands that take a config: first its file, then the command's own flags and keys of the config."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gptgan_jax.config import Config
from gptgan_jax.config.help import describe_keys
from gptgan_jax.errors import UserError
from gptgan_jax.schema.structure import fields_of


class Flag(NamedTuple):
    """A flag that is not a key of the config.

    Attributes:
        name: such as --seeds.
        meaning: one line.
        value: placeholder for its value in the usage; empty for a flag without a value.
        optional: whether the value may be left out.
        choices: the possible values, if they are few.
    """

    name: str
    meaning: str
    value: str = ""
    optional: bool = False
    choices: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """The flag with its value: --seeds N."""
        return f"{self.name} [{self.value}]" if self.optional else f"{self.name} {self.value}".strip()


class Given(NamedTuple):
    """The arguments of one call.

    Attributes:
        file: the config.
        flags: every value of each flag that was given; an empty string for a flag without a value.
        overrides: all other arguments: keys of the config.
    """

    file: str
    flags: Mapping[str, Sequence[str]]
    overrides: Sequence[str]

    def value(self, flag: str) -> str | None:
        """The last value of a flag; None if it was not given."""
        values = self.flags.get(flag)
        return values[-1] if values else None


class ConfigCommand(NamedTuple):
    """A command whose first argument is a config.

    Attributes:
        name: of the command.
        summary: one line for the list of commands.
        description: its help text below the usage.
        flags: its own flags.
        run: runs the command and returns its exit status.
        file: placeholder for the file in the usage.
        example: an example of a file and flags.
        lists_keys: whether its help ends with every key of a config.
    """

    name: str
    summary: str
    description: str
    flags: tuple[Flag, ...]
    run: Callable[[Given], int]
    file: str = "CONFIG"
    example: str = "quickstart"
    lists_keys: bool = False

    @property
    def usage(self) -> str:
        """One line: the command with its flags."""
        flags = "".join(f" [{flag.usage}]" for flag in self.flags)
        return f"gptgan {self.name} {self.file}{flags} [--key.path value ...]"

    @property
    def help(self) -> str:
        """What --help prints."""
        parts = [f"usage: {self.usage}", self.description.strip("\n")]
        if self.flags:
            parts.append("\n".join(f"  {flag.usage}\n      {flag.meaning}" for flag in self.flags))
        if self.lists_keys:
            parts.append(f"Every key can be set on the command line, which overrides the file:\n\n{describe_keys()}")
        return "\n\n".join(parts)

    def __call__(self, arguments: Sequence[str]) -> int:
        """Runs the command with the arguments after its name.

        Raises:
            UserError: the file is missing, a flag has no value, or whatever the command raises.
        """
        if "-h" in arguments or "--help" in arguments:
            print(self.help)
            return 0
        return self.run(self._given(arguments))

    def _given(self, arguments: Sequence[str]) -> Given:
        if not arguments or arguments[0].startswith("-"):
            what = "config" if self.file == "CONFIG" else "file"
            raise UserError(f"give a {what} first: gptgan {self.name} {self.example}; see gptgan {self.name} --help")
        flags = {flag.name: flag for flag in self.flags}
        found: dict[str, list[str]] = {}
        overrides: list[str] = []
        rest = list(arguments[1:])
        while rest:
            argument = rest.pop(0)
            name, equals, text = argument.partition("=")
            flag = flags.get(name)
            if flag is None:
                self._check_name(name)
                overrides.append(argument)
                if not equals and rest and not rest[0].startswith("--"):
                    overrides.append(rest.pop(0))
            elif equals or not flag.value:
                if equals and not flag.value:
                    raise UserError(f"{name} takes no value; see gptgan {self.name} --help")
                found.setdefault(name, []).append(text)
            elif rest and not rest[0].startswith("--"):
                found.setdefault(name, []).append(rest.pop(0))
            elif flag.optional:
                found.setdefault(name, []).append("")
            else:
                raise UserError(f"{name} needs a value: {flag.usage}; see gptgan {self.name} --help")
        return Given(arguments[0], found, overrides)

    def _check_name(self, name: str) -> None:
        """Raises UserError for a name that is not a key of a config but close to a flag."""
        key = name.removeprefix("--").replace("-", "_")
        near = difflib.get_close_matches(name, [flag.name for flag in self.flags], 1, cutoff=0.8)
        if near and name.startswith("--") and key not in fields_of(Config):
            raise UserError(f"unknown flag {name}; did you mean {near[0]}? See gptgan {self.name} --help")
