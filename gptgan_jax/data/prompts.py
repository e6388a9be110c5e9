"""Prompts as a generator reads them: one function for training, sampling, chat, evaluation and export."""

from collections.abc import Sequence
from typing import NamedTuple

from gptgan_jax.data.config import PromptKeep
from gptgan_jax.data.corpora import counted
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.tokenization.chat_templates import Message, Prompt, asked_text, last_that_fit

# What a decoder makes of bytes that are no whole character.
PARTIAL = "\N{REPLACEMENT CHARACTER}"


class EncodedPrompt(NamedTuple):
    """A prompt as a generator reads it.

    Attributes:
        ids: its tokens, without the BOS that `Vocabulary.begun` puts before them.
        text: what is asked, cut as the tokens are; without what a chat template writes around it.
        cut: whether the prompt was longer.
    """

    ids: list[int]
    text: str
    cut: bool


def encode_prompts(
    tokenizer: AnyTokenizer, prompts: Sequence[Prompt], longest: int, keep: PromptKeep
) -> list[EncodedPrompt]:
    """Prompts as token ids, each cut to `longest`.

    Args:
        tokenizer: of the generator.
        prompts: texts, or the turns of conversations.
        longest: in tokens, at least 1.
        keep: what is kept of a longer one; see `cut_prompt`.

    Raises:
        UserError: where a chat template refuses a prompt, or leaves no room for a token of it.
    """
    encoded = tokenizer.encode_prompts(prompts)
    return [cut_prompt(tokenizer, *pair, longest, keep) for pair in zip(prompts, encoded, strict=True)]


def cut_prompt(
    tokenizer: AnyTokenizer, prompt: Prompt, ids: list[int], longest: int, keep: PromptKeep
) -> EncodedPrompt:
    """A prompt within `longest` tokens.

    A conversation loses its earliest turns first. The last turn keeps its end or its beginning. What a chat
    template writes around it stays whole: it says whose turn it is, and opens the answer.

    Args:
        tokenizer: of the ids.
        prompt: the text, or the turns.
        ids: all of its tokens, as `Tokenizer.encode_prompts` gives them.
        longest: at least 1.
        keep: which part.

    Raises:
        UserError: where a chat template leaves no room for a token of the prompt.
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
        return EncodedPrompt(ids, tokenizer.decode(ids), True)
    system, last = turns[:-1], turns[-1] if turns else Message("user", asked_text(prompt))
    alone = tokenizer.encode(last.content)
    around = len(ids) - len(alone)
    room = longest - around
    while room > 0:
        text = tokenizer.decode(_part(alone, room, keep)).strip(PARTIAL)
        cut = tokenizer.encode_chat([*system, last._replace(content=text)])
        if len(cut) <= longest:
            return EncodedPrompt(cut, text, True)
        room -= len(cut) - longest  # text that was cut within a word may be spelt in more tokens
    raise UserError(
        f"data.max_prompt_length {longest}: the chat template's own {around} tokens leave a prompt no room; raise it, "
        "or set data.chat_template to false"
    )


def cut_note(count: int, longest: int, keep: PromptKeep) -> str:
    """What became of so many prompts that were too long, in words."""
    return f"{counted(count, 'prompt')} cut to the {'last' if keep == 'end' else 'first'} {longest} tokens"


def _part(ids: list[int], longest: int, keep: PromptKeep) -> list[int]:
    return ids[-longest:] if keep == "end" else ids[:longest]
