"""Encodes the output of a chat template: the template's special tokens are tokens, the same names in messages are
text."""

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property

import tokenizers

from gptgan_jax.tokenization.chat_templates import BREAK, break_names

# Enclose the replacement name of a special token; noncharacters, like BREAK.
_OPEN, _CLOSE = "\ufdd1", "\ufdd2"
_OWN = re.compile(f"[{BREAK}{_OPEN}{_CLOSE}]")


class RenderedText:
    """Encodes the output of a chat template with that template's tokenizer."""

    def __init__(self, backend: tokenizers.Tokenizer, plain: Callable[[list[int]], list[int]]) -> None:
        """`plain` replaces special tokens by those of plain text; see `Tokenizer.encode`."""
        self._backend = backend
        self._plain = plain

    def broken(self, text: str) -> str:
        """A message for a template, with the names of special tokens in it broken by `BREAK`."""
        text = _OWN.sub("", text)
        return break_names(text, self._names) if self._names_pattern.search(text) else text

    @cached_property
    def _names(self) -> dict[str, int]:
        """By text, the ids of the tokens that only a template may write."""
        return {t.content: i for i, t in self._backend.get_added_tokens_decoder().items() if t.special and t.content}

    @cached_property
    def _names_pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._names)) or "(?!)")

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
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
        ids = {backend.token_to_id(new): self._names[name] for name, new in renamed.items()}
        return backend, renamed, {there: here for there, here in ids.items() if there is not None}
