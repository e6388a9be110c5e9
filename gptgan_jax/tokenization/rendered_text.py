"""Token ids of conversations: a chat template's special tokens are tokens, the same names in messages are text."""

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import tokenizers

from gptgan_jax.errors import UserError
from gptgan_jax.tokenization.chat_templates import BREAK, ChatTemplate, Message, Prompt, break_names, turns_of

# Enclose the replacement name of a special token; noncharacters, like BREAK.
_OPEN, _CLOSE = "\ufdd1", "\ufdd2"
_OWN = re.compile(f"[{BREAK}{_OPEN}{_CLOSE}]")


# Stands for an answer; it occurs in no template.
_PROBE = "qzjx"
_SYSTEM, _USER, _ASSISTANT = Message("system", "s"), Message("user", "a"), Message("assistant", "b")
# Prompts that a template may begin or end in ways of their own; it may refuse all but the first.
_KINDS = ((_USER,), (_SYSTEM, _USER), (_USER, _ASSISTANT, _USER), (_SYSTEM, _USER, _ASSISTANT, _USER))


class Conversations:
    """Encodes conversations with a chat template and the tokenizer that it belongs to."""

    def __init__(
        self, template: ChatTemplate, backend: tokenizers.Tokenizer, plain: Callable[[list[int]], list[int]]
    ) -> None:
        """`plain` replaces special tokens by those of plain text; see `Tokenizer.encode`."""
        self._template = template
        self._backend = backend
        self._plain = plain

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Token ids of all that the template writes before each answer.

        Raises:
            UserError: if the template refuses a prompt.
        """
        return self._encode_batch([self._rendered(prompt) for prompt in prompts])

    def encode_pairs(
        self, prompts: Sequence[Prompt], texts: Sequence[str], alone: Sequence[list[int]]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """`encode_prompts`, and the token ids of the answers with all that the template writes after them.

        Args:
            prompts, texts: N each.
            alone: the ids of the texts by themselves.

        Raises:
            UserError: if the template refuses a prompt or an answer.
        """
        rendered = [self._rendered(prompt) for prompt in prompts]
        asked = self._encode_batch(rendered)
        whole = self._encode_batch([self._rendered(*pair) for pair in zip(prompts, texts, strict=True)])
        # A template may write earlier turns differently once they are answered; then the answer, and what the template
        # writes after one, are encoded after the prompt.
        other = [i for i, (ids, all_ids) in enumerate(zip(asked, whole, strict=True)) if all_ids[: len(ids)] != ids]
        after = [self._after_answer(prompts[i]) for i in other]
        followed = self._encode_batch(
            [rendered[i] + self._broken(texts[i]) + end for i, end in zip(other, after, strict=True)]
        )
        for i, ids, end in zip(other, followed, self._encode_batch(after), strict=True):
            whole[i] = ids if ids[: len(asked[i])] == asked[i] else [*asked[i], *alone[i], *end]
        return asked, [all_ids[len(ids) :] for ids, all_ids in zip(asked, whole, strict=True)]

    def first_tokens(self) -> set[int]:
        """The first token of each kind of prompt: of one turn or several, with a system turn or without.

        Raises:
            UserError: if the template refuses a user's turn.
        """
        return {ids[0] for ids in self._encode_batch(self._of_each_kind()) if ids}

    def written_of(self, names: Iterable[str]) -> str | None:
        """The first of these that the template writes before an answer; see `first_tokens`."""
        texts = self._of_each_kind()
        return next((name for name in names if any(name in text for text in texts)), None)

    def after_answers(self) -> list[list[int]]:
        """Token ids of what the template writes after the answer to each kind of prompt."""
        return self._encode_batch([self._after_answer(kind) for kind in _KINDS])

    def _of_each_kind(self) -> list[str]:
        """What the template writes before an answer, of each kind of prompt that it does not refuse."""
        texts = [self._rendered(_KINDS[0])]
        for kind in _KINDS[1:]:
            with contextlib.suppress(UserError):
                texts.append(self._rendered(kind))
        return texts

    def _after_answer(self, prompt: Prompt) -> str:
        """What the template writes after an answer; nothing where that can't be told."""
        try:
            text = self._rendered(prompt, _PROBE)
        except UserError:
            return ""
        return text[text.rfind(_PROBE) + len(_PROBE) :] if _PROBE in text else ""

    def _rendered(self, prompt: Prompt, answer: str | None = None) -> str:
        """The template's output; the names of special tokens in a message are broken."""
        turns = [one._replace(content=self._broken(one.content)) for one in turns_of(prompt)]
        return self._template.render(turns, None if answer is None else self._broken(answer))

    def _broken(self, text: str) -> str:
        """A message for a template, with the names of special tokens in it broken by `BREAK`."""
        text = _OWN.sub("", text)
        return break_names(text, self._names) if self._names_pattern.search(text) else text

    @cached_property
    def _names(self) -> dict[str, int]:
        """By text, the ids of the tokens that only a template may write."""
        return {t.content: i for i, t in self._backend.get_added_tokens_decoder().items() if t.special and t.content}

    @cached_property
    def _names_pattern(self) -> re.Pattern[str]:
        # The longest first, as the backend finds them, where one begins another.
        names = sorted(self._names, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)) or "(?!)")

    def _encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of a template's output: its special tokens as tokens, the same names in messages as text."""
        found = [encoding.ids for encoding in self._recognising.encode_batch(list(texts), add_special_tokens=False)]
        for i, text in enumerate(texts):
            if BREAK in text:
                found[i] = self._encode_broken(text)
        return found

    def _encode_broken(self, text: str) -> list[int]:
        """Renames the special tokens of the template, so that their own names are encoded like any other text."""
        backend, renamed, ids = self._renaming
        named = self._names_pattern.sub(lambda match: renamed[match.group()], text)
        encoding = backend.encode(named.replace(BREAK, ""), add_special_tokens=False)
        plain = (self._plain([i]) if i not in ids else [ids[i]] for i in encoding.ids)
        return [i for some in plain for i in some]

    @cached_property
    def _recognising(self) -> tokenizers.Tokenizer:
        """The backend, set to read the name of a special token as that token."""
        backend = tokenizers.Tokenizer.from_str(self._backend.to_str())
        backend.encode_special_tokens = False
        return backend

    @cached_property
    def _renaming(self) -> tuple[tokenizers.Tokenizer, dict[str, str], dict[int, int]]:
        """(the same backend with renamed special tokens, the new names, the original id of each token by its id
        there)."""
        content = json.loads(self._backend.to_str())
        renamed = {name: f"{_OPEN}{number}{_CLOSE}" for number, name in enumerate(self._names)}
        for token in content["added_tokens"]:
            if token["special"]:
                token["content"] = renamed.get(token["content"], token["content"])
        content["post_processor"] = None  # it may refer to the old names
        backend = tokenizers.Tokenizer.from_str(json.dumps(content))
        backend.encode_special_tokens = False
        # Of all added tokens: where special ones lay in the model's vocabulary, their new names come after it, and move
        # the others up.
        added = self._backend.get_added_tokens_decoder().items()
        ids = {backend.token_to_id(renamed.get(token.content, token.content)): here for here, token in added}
        return backend, renamed, {there: here for there, here in ids.items() if there is not None}
