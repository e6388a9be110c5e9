"""Prompts as a generator reads them: one function for training, sampling, chat, evaluation and export."""

from collections.abc import Sequence
from typing import NamedTuple

from gptgan_jax.data.config import PromptKeep
from gptgan_jax.data.corpora import counted
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.tokenization.chat_templates import Message, Prompt, asked_text, last_that_fit

# A decoder's output for bytes that are not a complete character.
PARTIAL = "\N{REPLACEMENT CHARACTER}"


class EncodedPrompt(NamedTuple):
    """A prompt as a generator reads it.

    Attributes:
        ids: its tokens, without the BOS that `Vocabulary.begun` adds.
        text: the text of the prompt, truncated like the tokens, without the markup of a chat template.
        cut: whether the prompt was longer.
    """

    ids: list[int]
    text: str
    cut: bool


def encode_prompts(
    tokenizer: AnyTokenizer, prompts: Sequence[Prompt], longest: int, keep: PromptKeep
) -> list[EncodedPrompt]:
    """Prompts as token ids, each truncated to `longest`.

    Args:
        tokenizer: of the generator.
        prompts: texts, or the turns of conversations.
        longest: in tokens, at least 1.
        keep: which part of a longer prompt to keep; see `cut_prompt`.

    Raises:
        UserError: if a chat template refuses a prompt, or leaves no room for a token of it.
    """
    encoded = tokenizer.encode_prompts(prompts)
    return [cut_prompt(tokenizer, *pair, longest, keep) for pair in zip(prompts, encoded, strict=True)]


def cut_prompt(
    tokenizer: AnyTokenizer, prompt: Prompt, ids: list[int], longest: int, keep: PromptKeep
) -> EncodedPrompt:
    """Truncates a prompt to `longest` tokens.

    A conversation loses its earliest turns first. The last turn keeps its end or its beginning. The markup of a chat
    template is kept whole: it says whose turn it is, and opens the answer.

    Args:
        tokenizer: of the ids.
        prompt: the text, or the turns.
        ids: all of its tokens, from `Tokenizer.encode_prompts`.
        longest: at least 1.
        keep: which part to keep.

    Raises:
        UserError: if a chat template leaves no room for a token of the prompt.
    """
    if len(ids) <= longest:
        return EncodedPrompt(ids, asked_text(prompt), False)
    turns: tuple[Message, ...] = () if isinstance(prompt, str) else prompt
    if len(turns) > 1:
        turns = tuple(last_that_fit(turns, lambda some: len(tokenizer.encode_chat(some)) <= longest))
        ids = tokenizer.encode_chat(turns)
        if len(ids) <= longest:
            return EncodedPrompt(ids, asked_text(turns), True)
    if getattr(tokenizer, "chat_template", None) is None:
        ids = _part(ids, longest, keep)
        return EncodedPrompt(ids, tokenizer.decode_prompt(ids), True)
    system, last = turns[:-1], turns[-1] if turns else Message("user", asked_text(prompt))
    alone = tokenizer.encode(last.content)
    around = len(ids) - len(alone)
    room = longest - around
    while room > 0:
        text = tokenizer.decode(_part(alone, room, keep)).strip(PARTIAL)
        cut = tokenizer.encode_chat([*system, last._replace(content=text)])
        if len(cut) <= longest:
            return EncodedPrompt(cut, text, True)
        room -= len(cut) - longest  # text that was cut within a word may need more tokens
    whose = "the chat template's and the system turn's" if system else "the chat template's own"
    raise UserError(
        f"data.max_prompt_length {longest}: {whose} {around} tokens leave a prompt no room; raise it, or set "
        "data.chat_template to false"
    )


def cut_note(count: int, longest: int, keep: PromptKeep) -> str:
    """A note on how many prompts were truncated, and how."""
    return f"{counted(count, 'prompt')} cut to the {'last' if keep == 'end' else 'first'} {longest} tokens"


def _part(ids: list[int], longest: int, keep: PromptKeep) -> list[int]:
    return ids[-longest:] if keep == "end" else ids[:longest]
