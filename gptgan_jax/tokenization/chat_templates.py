"""Chat templates: how a tokenizer writes the turns of a conversation, as text.

A template is a Jinja text in tokenizer_config.json (`chat_template`) or in chat_template.jinja next to it, as is usual
in the Hugging Face ecosystem. It comes with other people's files, so it runs in Jinja's sandbox: it sees the messages,
the names of the special tokens and what `transformers` passes to it, and nothing else. `tokenizers.Tokenizer` encodes
its output.

A template may trim a message, drop it or inspect it, so it gets the text itself. If a message spells a special token
such as <|im_end|>, a noncharacter breaks the name: a message can't end its turn or open another one.
"""

import datetime
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from gptgan_jax.errors import UserError

TEMPLATE_FILE = "chat_template.jinja"
TEMPLATE_KEY = "chat_template"
# Breaks the name of a special token in a message: a noncharacter, which no text uses.
BREAK = "\ufdd0"
# Longer files are not templates; the longest known templates have some twenty thousand characters.
MOST_CHARACTERS = 200_000
REMEDY = "set data.chat_template to false to do without it"
# What errors in a template raise, besides Jinja's own exceptions.
_WRONG = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


class Message(NamedTuple):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str


# A user's turn, or all turns of a conversation so far, of which the last is a user's.
Prompt = str | tuple[Message, ...]


def turns_of(prompt: Prompt) -> tuple[Message, ...]:
    """The turns of a prompt; a plain text is one user turn."""
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def prompt_text(prompt: Prompt) -> str:
    """The text of a prompt's turns, without the markup of a chat template."""
    return prompt if isinstance(prompt, str) else plain_text(prompt)


def asked_text(prompt: Prompt) -> str:
    """What a user asked: `prompt_text` without system turns, which are the same for many prompts."""
    return prompt_text(prompt if isinstance(prompt, str) else tuple(one for one in prompt if one.role != "system"))


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's template.

    Attributes:
        source: the Jinja text.
        special: by name, such as "bos_token", the special tokens that the template may write.
        file: the file that it was read from.
        options: its other variables, such as enable_thinking.
        now: the current time for the template, in ISO 8601; None: the time of rendering. A run keeps its start time.
    """

    source: str
    special: tuple[tuple[str, str], ...] = ()
    file: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    now: str | None = None

    def render(self, messages: Sequence[Message], answer: str | None = None) -> str:
        """The text up to the start of the assistant's next turn, or the whole text including its `answer`.

        Raises:
            UserError: an invalid template, or one that refuses these messages.
        """
        from jinja2.exceptions import TemplateError

        turns = [*messages] if answer is None else [*messages, Message("assistant", answer)]
        given = {
            "messages": [{"role": one.role, "content": one.content} for one in turns],
            "tools": None,
            "documents": None,
            "add_generation_prompt": answer is None,
            **dict(self.special),
            **dict(self.options),
        }
        try:
            return self._compiled.render(given)
        except UserError:
            raise
        except (TemplateError, *_WRONG) as error:
            raise UserError(f"{self._named} can't write this: {_reason(error)}; {REMEDY}") from None

    @property
    def by_itself(self) -> str:
        """The template for programs that don't know its options: they have the same values, unless others are given."""
        chosen = "".join(
            f"{{% if {name} is not defined %}}{{% set {name} = {value!r} %}}{{% endif %}}"
            for name, value in self.options
        )
        # A template's blocks are followed by a line break that is not written.
        return f"{chosen}\n{self.source}" if chosen else self.source

    @property
    def dated(self) -> bool:
        """Whether it may write the current time."""
        return "strftime_now" in self.source

    @property
    def _named(self) -> str:
        return "the tokenizer's chat template" + (f" ({self.file})" if self.file else "")

    def _strftime_now(self, form: str) -> str:
        now = datetime.datetime.now() if self.now is None else datetime.datetime.fromisoformat(self.now)
        return now.strftime(form)

    @cached_property
    def _compiled(self) -> Any:
        from jinja2 import nodes
        from jinja2.exceptions import TemplateError
        from jinja2.ext import Extension
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        class GenerationTag(Extension):
            """{% generation %} marks an assistant's text, for masks that are not used here: only its body is kept."""

            tags = {"generation"}  # noqa: RUF012  # as Jinja declares it

            def parse(self, parser: Any) -> Any:
                line = next(parser.stream).lineno
                body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
                return nodes.Scope(body).set_lineno(line)

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = self._strftime_now
        try:
            return environment.from_string(self.source)
        except (TemplateError, ValueError, RecursionError) as error:
            raise UserError(f"{self._named} is none: {_reason(error)}; {REMEDY}") from None


def break_names(text: str, names: Iterable[str]) -> str:
    """The text with `BREAK` inside each of these names that it contains, even if they overlap."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, name[:1] + BREAK + name[1:])
    return text


def read_template(folder: Path, names: Mapping[str, Any], special: Mapping[str, str]) -> ChatTemplate | None:
    """The template in a tokenizer's folder; None if there is none.

    Args:
        folder: may contain chat_template.jinja.
        names: the content of its tokenizer_config.json.
        special: by name, such as "eos_token", its special tokens.

    The template is not validated until it is used: a run without prompts needs none.

    Raises:
        UserError: a template that is not text, or is too long; several, of which none is the default.
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
        named = {str(one.get("name")): one.get("template") for one in source if isinstance(one, dict)}
        if len(named) > 1 and "default" not in named:
            they = ", ".join(map(repr, named))
            raise UserError(
                f"{read_from}: {TEMPLATE_KEY} has templates called {they[:160]} and none called 'default'; call the "
                "one so that shall be used"
            )
        source = next(iter(named.values()), None) if len(named) == 1 else named.get("default")
    if source is None:
        return None
    if not isinstance(source, str) or len(source) > MOST_CHARACTERS:
        raise UserError(
            f"{read_from}: {TEMPLATE_KEY} should be a Jinja template, a text of at most {MOST_CHARACTERS:,} characters"
        )
    return ChatTemplate(source, tuple(sorted(special.items())), str(read_from))


def plain_text(messages: Sequence[Message]) -> str:
    """Turns without a template: one per line, regardless of role; the answer follows the last one.

    So a single prompt is just its text, as for a generator that never saw more than one turn.
    """
    return "\n".join(one.content for one in messages)


def last_that_fit(messages: Sequence[Message], fits: Callable[[Sequence[Message]], bool]) -> list[Message]:
    """As many of the last turns as fit, starting with a user's; only the last turn if no more fit.

    A system turn at the beginning is kept.
    """
    system = [*messages[:1]] if messages and messages[0].role == "system" else []
    for i in range(len(system), len(messages) - 1):
        if messages[i].role == "user" and fits([*system, *messages[i:]]):
            return [*system, *messages[i:]]
    return [*system, *messages[len(system) :][-1:]]


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter of `transformers`; Jinja's own one escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: object) -> NoReturn:
    from jinja2.exceptions import TemplateError

    raise TemplateError(str(message))


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
