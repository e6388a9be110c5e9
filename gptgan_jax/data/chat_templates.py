"""Chat templates: how a tokenizer writes the turns of a conversation, as token ids.

A template is a Jinja text in tokenizer_config.json (`chat_template`) or in chat_template.jinja beside it, as the
Hugging Face ecosystem has it. It comes with files of others, so Jinja's sandbox runs it: it sees the messages and the
names of the special tokens, and nothing else.

What a template itself writes as a special token, such as <|im_start|>, becomes that token. What stands in a message
stays text, even where it spells one: nobody can end a turn, or open another's, from within a message.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from gptgan_jax.errors import UserError

TEMPLATE_FILE = "chat_template.jinja"
TEMPLATE_KEY = "chat_template"
# Private-use characters around the number of a message: where its text shall stand in what the template writes.
_OPEN, _CLOSE = "\ue000", "\ue001"
_PLACE = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
# Longer templates are none; the longest known have some twenty thousand characters.
MOST_CHARACTERS = 200_000
REMEDY = "set data.chat_template to false to do without it"
# What a template's own mistakes raise, besides Jinja's errors.
_WRONG = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


class Message(NamedTuple):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str


# What a text answers: a user's turn, or all turns of a conversation so far, the last of them a user's.
Prompt = str | tuple[Message, ...]


def turns_of(prompt: Prompt) -> tuple[Message, ...]:
    """The turns of a prompt; a text alone is a user's."""
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def prompt_text(prompt: Prompt) -> str:
    """The text of a prompt's turns, without what a chat template writes around them."""
    return prompt if isinstance(prompt, str) else plain_text(prompt)


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's template.

    Attributes:
        source: the Jinja text.
        special: by name, such as "bos_token", the special tokens that the template may write.
        file: that it was read from.
    """

    source: str
    special: tuple[tuple[str, str], ...] = ()
    file: str = ""

    def render(self, messages: Sequence[Message]) -> str:
        """The text that opens the assistant's next turn.

        Raises:
            UserError: a template that is none, or that refuses these messages.
        """
        from jinja2.exceptions import TemplateError

        turns = [{"role": one.role, "content": one.content} for one in messages]
        try:
            return self._compiled.render(messages=turns, add_generation_prompt=True, **dict(self.special))
        except UserError:
            raise
        except (TemplateError, *_WRONG) as error:
            raise UserError(f"{self._named} can't write this: {_reason(error)}; {REMEDY}") from None

    def pieces(self, messages: Sequence[Message], special: Mapping[str, int]) -> Iterator[str | int]:
        """The same as stretches of text, and the ids of special tokens between them.

        Args:
            messages: the turns.
            special: id of each special token, by its text.
        """
        places = [one._replace(content=f"{_OPEN}{i}{_CLOSE}") for i, one in enumerate(messages)]
        rendered = _PLACE.split(self.render(places))
        names = sorted(special, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, names))) if names else None
        text = ""
        for i, part in enumerate(rendered):
            if i % 2:
                # A number too high is of the template's own making.
                text += messages[int(part)].content if int(part) < len(messages) else part
                continue
            begin = 0
            for match in pattern.finditer(part) if pattern else ():
                text += part[begin : match.start()]
                if text:
                    yield text
                yield special[match.group()]
                text, begin = "", match.end()
            text += part[begin:]
        if text:
            yield text

    @property
    def _named(self) -> str:
        return "the tokenizer's chat template" + (f" ({self.file})" if self.file else "")

    @cached_property
    def _compiled(self) -> Any:
        from jinja2.exceptions import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        try:
            return environment.from_string(self.source)
        except (TemplateError, ValueError, RecursionError) as error:
            raise UserError(f"{self._named} is none: {_reason(error)}; {REMEDY}") from None


def read_template(folder: Path, names: Mapping[str, Any], special: Mapping[str, str]) -> ChatTemplate | None:
    """The template of a tokenizer's folder; None where it has none.

    Args:
        folder: which may hold chat_template.jinja.
        names: what its tokenizer_config.json holds.
        special: by name, such as "eos_token", its special tokens.

    Whether it is a template shows when it is used: a run without prompts needs none.

    Raises:
        UserError: a template that is no text, or too long.
    """
    file = folder / TEMPLATE_FILE
    read_from = folder / "tokenizer_config.json"
    source: Any = names.get(TEMPLATE_KEY)
    if file.is_file():
        read_from = file
        try:
            source = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: not a text ({_reason(error)})") from None
    if isinstance(source, list):  # several by name, as older files have them
        found = [one.get("template") for one in source if isinstance(one, dict) and one.get("name") == "default"]
        source = found[0] if found else None
    if source is None:
        return None
    if not isinstance(source, str) or len(source) > MOST_CHARACTERS:
        raise UserError(
            f"{read_from}: {TEMPLATE_KEY} should be a Jinja template, a text of at most {MOST_CHARACTERS:,} characters"
        )
    return ChatTemplate(source, tuple(sorted(special.items())), str(read_from))


def plain_text(messages: Sequence[Message]) -> str:
    """How turns are written without a template: each on a line of its own, whoever speaks; the last is answered.

    So one prompt is nothing but its text, as it is for a generator that never saw more than one.
    """
    return "\n".join(one.content for one in messages)


def last_that_fit(messages: Sequence[Message], fits: Callable[[Sequence[Message]], bool]) -> list[Message]:
    """The most turns from the end that fit, the first of them a user's; the last turn alone where no more do."""
    for i, one in enumerate(messages[:-1]):
        if one.role == "user" and fits(messages[i:]):
            return list(messages[i:])
    return list(messages[-1:])


def _refuse(message: object) -> NoReturn:
    from jinja2.exceptions import TemplateError

    raise TemplateError(str(message))


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
