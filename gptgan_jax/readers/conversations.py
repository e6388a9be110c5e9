"""Conversations in data sets: lists of messages, each with a role and a content, or with from and value.

Every function raises ValueError for an invalid conversation; its message is worded to follow a colon.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from gptgan_jax.readers.cells import as_text, shown
from gptgan_jax.tokenization.chat_templates import Message, Prompt

Role = Literal["system", "user", "assistant"]
# Names of the roles, lower case.
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
# The names of a message's role and content: in OpenAI and TRL, and in ShareGPT.
NAMES = (("role", "content"), ("from", "value"))
CALLS = ("tool_calls", "function_call")
# Columns beside a conversation: its system turn, and its tools, which a template would put before its turns.
SYSTEM_COLUMNS = ("system", "system_prompt")
TOOL_COLUMNS = ("tools", "functions")
# Other columns on which the text of a conversation would depend, and what they do.
UNREAD_COLUMNS = {
    **dict.fromkeys(TOOL_COLUMNS, "names tools, which no prompt holds here"),
    **dict.fromkeys(("images", "image"), "holds pictures, which no model here sees"),
    **dict.fromkeys(("videos", "video"), "holds films, which no model here sees"),
    **dict.fromkeys(("audios", "audio"), "holds sound, which no model here hears"),
    "chat_template_kwargs": "sets options of its template, which every row has alike here (as its tokenizer was made)",
}
SIDE_COLUMNS = (*SYSTEM_COLUMNS, *UNREAD_COLUMNS)
# Fields of a message: its weight in the loss, and text that the assistant wrote before its content.
WEIGHTS = ("weight", "train")
THOUGHTS = ("reasoning_content", "reasoning", "thinking")


def is_conversation(value: Any) -> bool:
    """Whether a value is meant as a conversation: a list of objects, or (in older sets) an object of lists."""
    if isinstance(value, dict):
        columns = all(isinstance(one, list) and one for one in value.values())
        return columns and any(role in value for role, _ in NAMES)
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def turns_from(value: Any) -> tuple[Message, ...]:
    """The turns of a value for which `is_conversation` holds."""
    return tuple(_message(i, one) for i, one in enumerate(_messages(value), 1))


def with_system(turns: Sequence[Message], row: Mapping[str, Any]) -> tuple[Message, ...]:
    """A conversation with the system turn of the columns beside it, if it has none of its own.

    Args:
        turns: of the conversation.
        row: the columns beside it, without those that have another meaning.
    """
    for column, what in UNREAD_COLUMNS.items():
        if not _is_empty(row.get(column)):
            raise ValueError(f"column {column} beside it {what}")
    if any(one.role == "system" for one in turns):
        return tuple(turns)
    found = {column: row[column] for column in SYSTEM_COLUMNS if not _is_empty(row.get(column))}
    texts = {_system_text(column, value): column for column, value in found.items()}
    if len(texts) > 1:
        raise ValueError(f"columns {' and '.join(texts.values())} beside it hold two system turns")
    return (*(Message("system", text) for text in texts), *turns)


def exchanges_of(
    value: Any, turns: Sequence[Message], every: bool = False, prompt: Sequence[Message] = ()
) -> tuple[list[tuple[str, Prompt]], int, bool]:
    """A conversation as texts and their prompts: the assistant's last turn, or every one that is to be learned.

    Args:
        value: the conversation as it stands in the data, possibly without the turns of its prompt.
        turns: the whole conversation.
        every: whether each assistant's turn is a text, after all turns before it; turns of weight 0 and those that
            follow no user's turn are left out.
        prompt: the turns that are a prompt in the data already: none of them is a text.

    Returns:
        (one or more pairs (text, prompt), how many of the assistant's turns `every` changes: those that it would add,
        or those that it leaves out; whether turns after the last text are left out).

    Raises:
        ValueError: no turn is to be learned, or one that is has reasoning beside its content.
    """
    messages, begun = _messages(value), len(_spoken(prompt))
    said = [i - len(turns) for i, one in enumerate(turns) if one.role == "assistant"]
    said = [at for at in said if len(_spoken(turns[:at])) >= begun]
    if not said:
        raise ValueError("no turn of the assistant's, which is the text to learn")
    follow = [at for at in said if len(turns) + at > 0 and turns[at - 1].role == "user"]
    learned = [at for at in follow if _weightless(messages[at]) is None]
    last = said[-1]
    if (not learned if every else last not in learned) and (name := _weightless(messages[last])):
        what = "as all turns that could be learned" if every else "the assistant's last"
        raise ValueError(
            f"message {_number(messages, last)}, {what}, has {name} {as_text(messages[last][name])}: not to learn"
        )
    if not learned or (not every and last not in learned):
        raise ValueError("no user's turn before the assistant's last, which answers it")
    chosen = learned if every else [last]
    for at in chosen:
        for name in THOUGHTS:
            if not _is_empty(messages[at].get(name)):
                number = _number(messages, at)
                raise ValueError(
                    f"message {number} has {name} beside its content, which should hold all that is learned"
                )
    pairs = [(turns[at].content, as_prompt(turns[:at])) for at in chosen]
    return pairs, (len(said) if every else len(learned)) - len(pairs), chosen[-1] != -1


def contexts_of(turns: Sequence[Message]) -> list[Prompt]:
    """What a conversation asks at each user's turn: that turn and all before it."""
    return [as_prompt(turns[: i + 1]) for i, one in enumerate(turns) if one.role == "user"]


def asked(turns: Sequence[Message]) -> tuple[Prompt, bool]:
    """A conversation as a prompt: its turns up to the user's last.

    Returns:
        (prompt, whether later turns are left out).
    """
    last = max((i for i, one in enumerate(turns) if one.role == "user"), default=None)
    if last is None:
        raise ValueError("no turn of a user's")
    return as_prompt(turns[: last + 1]), last + 1 < len(turns)


def joined(prompt: Sequence[Message], answer: Sequence[Message]) -> tuple[Message, ...]:
    """The whole conversation of a column of prompts and a column of what follows them.

    What follows is either the turns from the assistant's first on, or the whole conversation again.
    """
    if answer[0].role == "assistant":
        return (*prompt, *answer)
    for whole in (answer, [one for one in answer if one.role != "system"]):
        if tuple(whole[: len(prompt)]) == tuple(prompt):
            return tuple(answer)
    raise ValueError("it begins with another turn than the prompt's and the assistant's")


def _spoken(turns: Sequence[Message]) -> list[Message]:
    """The turns but the system's, which a prompt's column and a whole conversation need not both have."""
    return [one for one in turns if one.role != "system"]


def as_prompt(turns: Sequence[Message]) -> Prompt:
    """Turns as a prompt; a single user turn becomes its text."""
    return turns[0].content if len(turns) == 1 and turns[0].role == "user" else tuple(turns)


def prompt_value(prompt: Prompt) -> str | list[dict[str, str]]:
    """A prompt as written to a JSON file; `turns_from` and `as_prompt` read it back."""
    return prompt if isinstance(prompt, str) else [one._asdict() for one in prompt]


def _messages(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [dict(zip(value, one, strict=True)) for one in zip(*value.values(), strict=True)]
    return list(value)


def _names(value: dict[str, Any]) -> tuple[str, str]:
    """The names of a message's role and content; empty if it has neither pair."""
    return next((pair for pair in NAMES if all(one in value for one in pair)), ("", ""))


def _role(value: dict[str, Any]) -> Role | None:
    return ROLES.get(str(value.get(_names(value)[0])).lower())


def _message(number: int, value: dict[str, Any]) -> Message:
    name, held = _names(value)
    if not name:
        raise ValueError(
            f"message {number} has {', '.join(map(str, value)) or 'nothing'}; it should have role and content"
        )
    role = _role(value)
    if role is None:
        raise ValueError(
            f"message {number} is of the role {shown(value[name])}, which is none of {', '.join(get_args(Role))}"
        )
    if any(value.get(call) for call in CALLS):
        raise ValueError(f"message {number} calls a tool")
    if any(not _is_empty(value.get(name)) for name in TOOL_COLUMNS):
        raise ValueError(f"message {number} names tools, which no prompt holds here")
    return Message(role, _content(number, value[held]))


def _number(messages: Sequence[Any], at: int) -> int:
    """The number of the message at an index that counts from the end."""
    return len(messages) + at + 1


def _weightless(message: Mapping[str, Any]) -> str | None:
    """The field of a message by which it is not to be learned; None if it is."""
    return next((name for name in WEIGHTS if as_text(message.get(name)) in ("0", "0.0", "false")), None)


def _is_empty(value: Any) -> bool:
    """Whether a cell is empty: null, white space, or an empty list or object, also written as JSON."""
    return value is None or (value.strip() in ("", "[]", "{}", "null") if isinstance(value, str) else value in ([], {}))


def _system_text(column: str, value: Any) -> str:
    parts = value if isinstance(value, list) else [value]
    try:
        return "".join(_part(0, one) for one in parts)
    except ValueError:
        raise ValueError(f"column {column} beside it holds {shown(value)}, which is no system turn's text") from None


def _content(number: int, value: Any) -> str:
    """The text of a message; several parts are joined."""
    if isinstance(value, list):
        parts = [_part(number, one) for one in value]
        return "".join(parts)
    text = as_text(value)
    if text is None:
        raise ValueError(f"message {number} holds {shown(value)}, which is no text")
    return text


def _part(number: int, value: Any) -> str:
    if isinstance(value, str):
        return value
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str) or value.get("type", "text") != "text":
        raise ValueError(f"message {number} has a part that is no text: {shown(value)}")
    return text
