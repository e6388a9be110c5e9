"""Text to token ids and back, for words, characters, byte pairs, any tokenizer.json, and plain ids.

Hugging Face `tokenizers` does everything that touches characters; this file decides which tokens are special.
Encoding a text never gives special tokens, not even if the text contains "<eos>".
"""

import dataclasses
import datetime
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import tokenizers

from gptgan_jax.errors import UserError
from gptgan_jax.system.atomic_files import write_whole
from gptgan_jax.tokenization.chat_templates import (
    REMEDY,
    TEMPLATE_KEY,
    ChatTemplate,
    Message,
    Prompt,
    plain_text,
    prompt_text,
)
from gptgan_jax.tokenization.rendered_text import Conversations
from gptgan_jax.tokenization.special_tokens import SPECIALS_FILE, TOKENIZER_FILE, SpecialTokens
from gptgan_jax.tokenization.token_ids import TokenIds, parse_ids, size_of_ids, unknown_ids
from gptgan_jax.tokenization.token_texts import decoder_of, is_of_characters
from gptgan_jax.tokenization.units import Tokens
from gptgan_jax.types import Vocabulary

IDS_FILE = "ids.json"
# In tokenizer_config.json: the size of a vocabulary in which not all ids are tokens; see `Tokenizer.padded`.
PADDED_SIZE = "padded_vocab_size"
# In tokenizer_config.json of a run: how the run reads and ends texts; see `Tokenizer.save`.
OWN_KEY = "gptgan_jax"


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Text to token ids and back.

    Attributes:
        backend: the Hugging Face tokenizer that does the work.
        vocabulary: the number of ids, and the special ones.
        special: the special tokens according to the files.
        chat_template: writes the turns of a conversation; None: `chat_templates.plain_text` does.
    """

    backend: tokenizers.Tokenizer
    vocabulary: Vocabulary
    special: SpecialTokens
    chat_template: ChatTemplate | None = None

    @property
    def unk_id(self) -> int | None:
        """The id of the unknown token; None if nothing is ever unknown."""
        return self.special.unk

    @property
    def as_unit(self) -> Tokens:
        """Its tokens as the unit of metrics."""
        return Tokens(self, self.backend.to_str())

    @property
    def own_unit(self) -> Literal["word", "character"] | None:
        """What its tokens always are; None if that depends on the texts."""
        return "character" if is_of_characters(self.backend) else None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; no special tokens are added. Raises UserError for a list of numbers (`TokenIds`)."""
        self._check_texts([text])
        return self._plain(self.backend.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, in parallel."""
        self._check_texts(texts)
        return [self._plain(e.ids) for e in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the turns before the answer, without the BOS that `Vocabulary.begun` adds.

        With a chat template they encode the whole text that it writes, as in `transformers`.

        Raises:
            UserError: if the chat template refuses these turns.
        """
        return self.encode_prompts([tuple(messages)])[0]

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """`encode_chat` of each."""
        self._check_texts(prompts)
        if self.chat_template is None:
            ids = self.encode_batch([prompt_text(prompt) for prompt in prompts])
            begun = [[*self.special.prefix[1:], *one] for one in ids] if len(self.special.prefix) > 1 else ids
            return begun if self.vocabulary.begins_prompts else ids
        return [self._unbegun(ids) for ids in self._conversations.encode_prompts(prompts)]

    def encode_pairs(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of prompts, as from `encode_prompts`, and of their answers, including the end.

        With a chat template an answer's tokens are those within the rendered text, up to the token that ends its turn.
        An answer without any token of its own has none, and no end.

        Raises:
            UserError: if the chat template refuses a prompt.
        """
        alone = self.encode_batch(texts)
        self._check_texts(prompts)
        if self.chat_template is None:
            return self.encode_prompts(prompts), [self.ended(ids) if ids else [] for ids in alone]
        asked, answers = self._conversations.encode_pairs(prompts, texts, alone)
        targets = []
        for answer, own in zip(answers, alone, strict=True):
            end = next((i for i, token in enumerate(answer) if token in self.vocabulary.ends), None)
            targets.append((answer[: end + 1] if end is not None else self.ended(answer)) if own else [])
        return [self._unbegun(ids) for ids in asked], targets

    def ended(self, ids: list[int]) -> list[int]:
        """A text's token ids followed by the end of text."""
        return ids if self.vocabulary.eos_id is None else [*ids, self.vocabulary.eos_id]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids up to the first that ends it; special tokens except the unknown one are left out."""
        return self.decode_prompt(itertools.takewhile(lambda i: i not in self.vocabulary.ends, map(int, ids)))

    def decode_prompt(self, ids: Iterable[int]) -> str:
        """The text of a prompt's token ids, none of which ends it: a template ends its turns, and BOS may be EOS."""
        return self._decoded([i for i in map(int, ids) if i not in self._special])

    def unknown_words(self, text: str) -> list[str]:
        """The pieces of a text that are unknown to the tokenizer, in their order."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return [
            text[start:end]
            for i, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if i == self.unk_id or i in self._special
        ]

    def padded(self, size: int) -> "Tokenizer":
        """The same with that many ids: networks often have more than their tokenizer, to reach a round number."""
        return dataclasses.replace(self, vocabulary=dataclasses.replace(self.vocabulary, size=size))

    def for_prompts(self, chat: bool = True, options: Mapping[str, Any] | None = None) -> "Tokenizer":
        """The same for texts that answer prompts: it adds the prefix of a prompt and the end of a turn.

        Args:
            chat: write prompts with the chat template, if there is one.
            options: the template's variables besides the messages.

        Raises:
            UserError: an invalid template, or one that refuses a user's turn or writes a token that has no id.
        """
        template = self.chat_template if chat else None
        if template is not None:
            now = datetime.datetime.now().isoformat(timespec="seconds") if template.dated else None
            options_now = tuple(sorted((options or {}).items())) or template.options
            template = dataclasses.replace(template, options=options_now, now=template.now or now)
        tokenizer = dataclasses.replace(self, chat_template=template)
        first = tokenizer._first_of_prompts()
        turn_ends = [i for i in tokenizer._turn_ends() if i not in self.vocabulary.ends]
        vocabulary = dataclasses.replace(
            self.vocabulary,
            bos_id=self.special.begins_text if first is None else first,
            begins_prompts=first is not None,
            other_ends=(*self.vocabulary.other_ends, *turn_ends),
        )
        return dataclasses.replace(tokenizer, vocabulary=vocabulary)

    def for_texts(self) -> "Tokenizer":
        """The same for texts without prompts, whatever a run that this tokenizer comes from read.

        Each text begins with the beginning of text and ends as the files say. The chat template is kept, for other
        programs and for runs that start from this one.
        """
        vocabulary = dataclasses.replace(
            self.vocabulary,
            bos_id=self.special.begins_text,
            begins_prompts=True,
            other_ends=tuple(i for i in self.special.ends if i != self.vocabulary.eos_id),
        )
        return dataclasses.replace(self, vocabulary=vocabulary)

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json into a folder; `load_tokenizer` reads them back."""
        own: dict[str, Any] = {
            "names": dict(self.special.names),
            "begins_text": self.special.begins_text,
            "prefix": self.special.prefix,
            "ends": self.special.ends,
            "unk": self.unk_id,
            "tokens": vocabulary_size(self.backend),
            "vocabulary": dataclasses.asdict(self.vocabulary),
        }
        if self.chat_template is not None:
            own |= {"template_options": dict(self.chat_template.options), "template_now": self.chat_template.now}
        self.save_files(folder, {OWN_KEY: own})

    def save_files(self, folder: str | Path, more: Mapping[str, Any] | None = None) -> None:
        """Writes tokenizer.json and tokenizer_config.json in the form that other programs read.

        Args:
            folder: created if necessary.
            more: further entries of tokenizer_config.json, besides the special tokens' names and the chat template.

        A role that the files name no token for is named here, but not where the chat template would then write that
        token in other programs. A run's own files (`more`) need the name, and keep those of the template apart.
        """
        roles = {"pad": self.vocabulary.pad_id, "bos": self.special.begins_text, "eos": self.vocabulary.eos_id}
        ids = {role: i for role, i in (roles | {"unk": self.unk_id}).items() if i is not None}
        named: dict[str, Any] = {f"{role}_token": self.backend.id_to_token(i) for role, i in ids.items()}
        names = named | {
            key: name for key, name in self.special.names.items() if name is not None or key != "eos_token"
        }
        if self.chat_template is not None and more is None:
            known, source = self.special.names, self.chat_template.source
            names = {key: name for key, name in names.items() if known.get(key) is not None or key not in source}
        if self.vocabulary.size != vocabulary_size(self.backend):
            names[PADDED_SIZE] = self.vocabulary.size
        if self.chat_template is not None:
            names[TEMPLATE_KEY] = self.chat_template.by_itself if more is None else self.chat_template.source
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_whole(Path(folder) / TOKENIZER_FILE, self.backend.to_str(pretty=True).encode())
        content = json.dumps(names | dict(more or {}), indent=1, ensure_ascii=False)
        write_whole(Path(folder) / SPECIALS_FILE, content.encode())

    # ---- special tokens

    @cached_property
    def _special(self) -> frozenset[int]:
        """Ids that are not text; the unknown token is not among them, because a reader should see it."""
        v = self.vocabulary
        added = {i for i, token in self.backend.get_added_tokens_decoder().items() if token.special}
        return frozenset(i for i in added | {v.pad_id, v.bos_id, *v.ends} if i is not None and i != self.unk_id)

    @cached_property
    def _decoded(self) -> Callable[[Sequence[int]], str]:
        return decoder_of(self.backend)

    def _check_texts(self, texts: Iterable[Prompt]) -> None:
        """Raises UserError for a list of numbers, which would be split into digits."""
        found = next((one for one in texts if isinstance(one, TokenIds)), None)
        if found is not None:
            where = found.said or repr(found[:40])
            raise UserError(
                f"{where}, which is no text; lists of whole numbers are token ids: set tokenizer.kind to ids"
            )

    def _plain(self, ids: list[int]) -> list[int]:
        """Makes special tokens unknown, such as the word "<eos>", which a word-level vocabulary finds like any word."""
        if self._special.isdisjoint(ids):
            return ids
        replaced = (self.unk_id if i in self._special else i for i in ids)
        return [i for i in replaced if i is not None]

    def _unbegun(self, ids: list[int]) -> list[int]:
        """Token ids of a prompt without the BOS that `Vocabulary.begun` adds."""
        return ids[1:] if self.vocabulary.begins_prompts and ids[:1] == [self.vocabulary.bos_id] else ids

    # ---- chat templates

    @cached_property
    def _conversations(self) -> Conversations:
        assert self.chat_template is not None
        return Conversations(self.chat_template, self.backend, self._plain)

    def _first_of_prompts(self) -> int | None:
        """The token that begins prompts of every kind, if it is a special one."""
        if self.chat_template is None:
            return next(iter(self.special.prefix), None)
        unknown = [name for name in self.special.names.values() if name and self.backend.token_to_id(name) is None]
        if name := self._conversations.written_of(unknown):
            raise UserError(
                f"the tokenizer's chat template writes {name!r}, a special token of its files that tokenizer.json "
                f"lacks; add it there, or {REMEDY}"
            )
        first = self._conversations.first_tokens()
        return next(iter(first)) if len(first) == 1 and first <= self._special else None

    def _turn_ends(self) -> list[int]:
        """The special tokens that the chat template writes after answers, each once."""
        after = [] if self.chat_template is None else self._conversations.after_answers()
        found = (next((i for i in ids if i in self._special), None) for ids in after)
        return list(dict.fromkeys(i for i in found if i is not None))


class EndedIdTokenizer(Tokenizer):
    """A tokenizer of texts that are already token ids, numbers separated by spaces; special tokens have ids above them.

    Token i is the number i, also for other programs that read its tokenizer.json. No number is unknown: numbers outside
    the vocabulary are refused.
    """

    @cached_property
    def numbers(self) -> int:
        """The number of ids of texts, from 0."""
        size = size_of_ids(self.backend)
        assert size is not None
        return size

    @property
    def own_unit(self) -> Literal["word", "character"] | None:
        """Every number is a word."""
        return "word"

    def encode(self, text: str) -> list[int]:
        """The ids in a text. Raises BadTokenId for a word that is not an id."""
        return parse_ids(text, self.numbers)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        return [self.encode(text) for text in texts]

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that are no ids of the vocabulary."""
        return unknown_ids(text, self.numbers)

    def _check_texts(self, texts: Iterable[Prompt]) -> None:
        """Accepts all texts: lists of numbers are its input."""


@dataclass(frozen=True)
class IdTokenizer:
    """Takes the place of a tokenizer if documents are an oracle's token ids: a text is numbers separated by spaces.

    Attributes:
        vocabulary: no end of text; the oracle's start token is the beginning of text and the padding.
    """

    vocabulary: Vocabulary

    @property
    def as_unit(self) -> Tokens:
        """Its ids as the unit of metrics."""
        return Tokens(self, f"{self.vocabulary.size} ids")

    @property
    def own_unit(self) -> Literal["word", "character"] | None:
        """Every number is a word."""
        return "word"

    def encode(self, text: str) -> list[int]:
        """The ids in a text. Raises UserError for a word that is not an id of the vocabulary."""
        return parse_ids(text, self.vocabulary.size)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        return [self.encode(text) for text in texts]

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """`encode` of the turns, one after another."""
        return self.encode(plain_text(messages))

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """`encode` of each prompt."""
        return self.encode_batch([prompt_text(prompt) for prompt in prompts])

    def encode_pairs(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """`encode` of each."""
        return self.encode_prompts(prompts), self.encode_batch(texts)

    def ended(self, ids: list[int]) -> list[int]:
        """The same ids, because such texts have no end token."""
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The ids as decimal numbers, joined by spaces."""
        return " ".join(str(int(i)) for i in ids)

    def decode_prompt(self, ids: Iterable[int]) -> str:
        """`decode`: no id ends a text."""
        return self.decode(ids)

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that are no ids of the vocabulary."""
        return unknown_ids(text, self.vocabulary.size)

    def save(self, folder: str | Path) -> None:
        """Writes ids.json into a folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        content = {"vocab_size": self.vocabulary.size, "start_token": self.vocabulary.bos_id}
        write_whole(Path(folder) / IDS_FILE, json.dumps(content).encode())


AnyTokenizer = Tokenizer | IdTokenizer


def vocabulary_size(backend: tokenizers.Tokenizer) -> int:
    """The number of ids of a tokenizer, including unused ones below its highest."""
    return max(backend.get_vocab(with_added_tokens=True).values()) + 1
