"""Text to token ids and back: word-level, byte-level BPE, any tokenizer.json, and plain ids for the oracle.

Everything that touches characters is done by Hugging Face `tokenizers`; this file decides what counts as special.
Special tokens never come out of encoding a text, not even where the text spells "<eos>".
"""

import dataclasses
import datetime
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import tokenizers
from pydantic import Field
from tokenizers import models, normalizers, pre_tokenizers

from gptgan_jax.data.byte_pairs import fit_byte_pairs
from gptgan_jax.data.chat_templates import (
    BREAK,
    TEMPLATE_KEY,
    ChatTemplate,
    Message,
    Prompt,
    break_names,
    plain_text,
    prompt_text,
    read_template,
    turns_of,
)
from gptgan_jax.data.corpora import Corpus
from gptgan_jax.data.oracle import Oracle
from gptgan_jax.data.special_tokens import (
    SPECIALS_FILE,
    TOKENIZER_FILE,
    SpecialTokens,
    read_json,
    read_special_tokens,
)
from gptgan_jax.errors import UserError
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.types import Vocabulary
from gptgan_jax.whole_files import write_whole

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
IDS_FILE = "ids.json"
# In tokenizer_config.json: how many ids a vocabulary has of which not all are tokens; see `Tokenizer.padded`.
PADDED_SIZE = "padded_vocab_size"
# In tokenizer_config.json of a run: how it reads and ends texts; see `Tokenizer.save`.
OWN_KEY = "gptgan_jax"


@config_dataclass
class WordTokenizer:
    """A token for each word between spaces, as the text-GAN literature has it."""

    kind: Literal["word"] = key("word", "one token a word")
    vocab_size: int | None = key(None, "keep the most frequent words, special tokens counted; none: all", ge=5)
    min_count: int = key(1, "keep the words that occur so often in training text (a known lexicon is kept)", ge=1)
    lowercase: bool = key(False, "write everything in lower case first")


@config_dataclass
class BpeTokenizer:
    """Byte-level byte-pair encoding, trained on the corpus: no text is unknown to it."""

    kind: Literal["bpe"] = key("bpe", "byte-level BPE trained on the corpus")
    vocab_size: int = key(8000, "tokens at most, the 256 bytes and 4 special ones counted", ge=260)


@config_dataclass
class FileTokenizer:
    """A tokenizer that exists already."""

    kind: Literal["file"] = key("file", "a tokenizer.json of Hugging Face tokenizers")
    path: str = key("tokenizer.json", "the file; a tokenizer_config.json beside it names its special tokens")


TokenizerConfig = Annotated[WordTokenizer | BpeTokenizer | FileTokenizer, Field(discriminator="kind")]


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Text to token ids and back.

    Attributes:
        backend: the Hugging Face tokenizer that does the work.
        vocabulary: number of ids, and the special ones.
        special: the special tokens as the files have them.
        chat_template: how it writes the turns of a conversation; None: `chat_templates.plain_text`.
    """

    backend: tokenizers.Tokenizer
    vocabulary: Vocabulary
    special: SpecialTokens
    chat_template: ChatTemplate | None = None

    @property
    def unk_id(self) -> int | None:
        """Stands for what has no token of its own; None where nothing is ever unknown."""
        return self.special.unk

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; no special tokens are added."""
        return self._plain(self.backend.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, in parallel."""
        return [self._plain(e.ids) for e in self.backend.encode_batch(list(texts), add_special_tokens=False)]

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the turns that the next one answers, without the BOS that `Vocabulary.begun` puts before them.

        By a chat template they are those of the whole text that it writes, as `transformers` encodes it.

        Raises:
            UserError: where the chat template refuses these turns.
        """
        return self.encode_prompts([tuple(messages)])[0]

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """`encode_chat` of each."""
        if self.chat_template is None:
            ids = self.encode_batch([prompt_text(prompt) for prompt in prompts])
            begun = [[*self.special.prefix[1:], *one] for one in ids] if len(self.special.prefix) > 1 else ids
            return begun if self.vocabulary.begins_prompts else ids
        return [self._unbegun(ids) for ids in self._encode_rendered([self._rendered(prompt) for prompt in prompts])]

    def encode_pairs(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of prompts, as `encode_prompts` gives them, and of the texts that answer them, with their end.

        By a chat template a text's tokens are those that it has where the template writes it, up to the token that
        ends its turn. A text without any token of its own has none, and no end.

        Raises:
            UserError: where the chat template refuses a prompt.
        """
        alone = self.encode_batch(texts)
        if self.chat_template is None:
            return self.encode_prompts(prompts), [self.ended(ids) if ids else [] for ids in alone]
        rendered = [self._rendered(prompt) for prompt in prompts]
        asked = self._encode_rendered(rendered)
        whole = self._encode_rendered([self._rendered(*pair) for pair in zip(prompts, texts, strict=True)])
        # A template may write earlier turns otherwise once they are answered: then the answer follows what was asked.
        other = [i for i, (ids, all_ids) in enumerate(zip(asked, whole, strict=True)) if all_ids[: len(ids)] != ids]
        followed = self._encode_rendered([rendered[i] + self._broken(texts[i]) for i in other])
        for i, ids in zip(other, followed, strict=True):
            whole[i] = ids if ids[: len(asked[i])] == asked[i] else [*asked[i], *alone[i]]
        targets = []
        for before, all_ids, own in zip(asked, whole, alone, strict=True):
            answer = all_ids[len(before) :]
            end = next((i for i, token in enumerate(answer) if token in self.vocabulary.ends), None)
            targets.append((answer[: end + 1] if end is not None else self.ended(answer)) if own else [])
        return [self._unbegun(ids) for ids in asked], targets

    def ended(self, ids: list[int]) -> list[int]:
        """A text's token ids with the end of text behind them."""
        return ids if self.vocabulary.eos_id is None else [*ids, self.vocabulary.eos_id]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids up to the first that ends it; special tokens other than the unknown are left out."""
        until_end = itertools.takewhile(lambda i: i not in self.vocabulary.ends, map(int, ids))
        return self.backend.decode([i for i in until_end if i not in self._special], False)

    def unknown_words(self, text: str) -> list[str]:
        """The pieces of a text that the tokenizer knows only as "unknown", in their order."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return [
            text[start:end]
            for i, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if i == self.unk_id or i in self._special
        ]

    def padded(self, size: int) -> "Tokenizer":
        """The same with so many ids: networks often have more than their tokenizer, to a round number."""
        return dataclasses.replace(self, vocabulary=dataclasses.replace(self.vocabulary, size=size))

    def for_prompts(self, chat: bool = True, options: Mapping[str, Any] | None = None) -> "Tokenizer":
        """The same for texts that answer prompts: with what stands before a prompt, and what ends a turn.

        Args:
            chat: write prompts by the chat template, where there is one.
            options: what the template is given besides the messages.

        Raises:
            UserError: a template that is none, or that refuses a user's turn.
        """
        template = self.chat_template if chat else None
        if template is not None:
            now = datetime.datetime.now().isoformat(timespec="seconds") if template.dated else None
            options_now = tuple(sorted((options or {}).items())) or template.options
            template = dataclasses.replace(template, options=options_now, now=template.now or now)
        tokenizer = dataclasses.replace(self, chat_template=template)
        first = tokenizer._first_of_prompts()
        ends = self.vocabulary.other_ends
        turn_end = tokenizer._turn_end()
        if turn_end is not None and turn_end not in self.vocabulary.ends:
            ends = (*ends, turn_end)
        vocabulary = dataclasses.replace(
            self.vocabulary,
            bos_id=self.special.begins_text if first is None else first,
            begins_prompts=first is not None,
            other_ends=ends,
        )
        return dataclasses.replace(tokenizer, vocabulary=vocabulary)

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json into a folder, from which `load_tokenizer` reads it back."""
        own: dict[str, Any] = {
            "begins_text": self.special.begins_text,
            "prefix": self.special.prefix,
            "ends": self.special.ends,
            "unk": self.unk_id,
            "vocabulary": dataclasses.asdict(self.vocabulary),
        }
        if self.chat_template is not None:
            own |= {"template_options": dict(self.chat_template.options), "template_now": self.chat_template.now}
        self.save_files(folder, {OWN_KEY: own})

    def save_files(self, folder: str | Path, more: Mapping[str, Any] | None = None) -> None:
        """Writes tokenizer.json and tokenizer_config.json as others read them.

        Args:
            folder: made if there is none.
            more: for tokenizer_config.json, besides the names of the special tokens and the chat template.
        """
        roles = {"pad": self.vocabulary.pad_id, "bos": self.special.begins_text, "eos": self.vocabulary.eos_id}
        ids = {role: i for role, i in (roles | {"unk": self.unk_id}).items() if i is not None}
        named: dict[str, Any] = {f"{role}_token": self.backend.id_to_token(i) for role, i in ids.items()}
        names = named | {
            key: name for key, name in self.special.names.items() if name is not None or key != "eos_token"
        }
        if self.vocabulary.size != _size(self.backend):
            names[PADDED_SIZE] = self.vocabulary.size
        if self.chat_template is not None:
            names[TEMPLATE_KEY] = self.chat_template.source
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_whole(Path(folder) / TOKENIZER_FILE, self.backend.to_str(pretty=True).encode())
        content = json.dumps(names | dict(more or {}), indent=1, ensure_ascii=False)
        write_whole(Path(folder) / SPECIALS_FILE, content.encode())

    # ---- special tokens

    @cached_property
    def _special(self) -> frozenset[int]:
        """Ids that mean something other than text; the unknown is not among them, for a reader should see it."""
        v = self.vocabulary
        added = {i for i, token in self.backend.get_added_tokens_decoder().items() if token.special}
        return frozenset(i for i in added | {v.pad_id, v.bos_id, *v.ends} if i is not None and i != self.unk_id)

    def _plain(self, ids: list[int]) -> list[int]:
        """A word-level vocabulary finds "<eos>" like any other word; such a word is unknown to it."""
        if self._special.isdisjoint(ids):
            return ids
        replaced = (self.unk_id if i in self._special else i for i in ids)
        return [i for i in replaced if i is not None]

    def _unbegun(self, ids: list[int]) -> list[int]:
        """Token ids of a prompt without the BOS that `Vocabulary.begun` puts before them."""
        return ids[1:] if self.vocabulary.begins_prompts and ids[:1] == [self.vocabulary.bos_id] else ids

    # ---- chat templates

    def _rendered(self, prompt: Prompt, answer: str | None = None) -> str:
        """What the chat template writes; the names of special tokens that a message spells are broken."""
        assert self.chat_template is not None
        turns = [one._replace(content=self._broken(one.content)) for one in turns_of(prompt)]
        return self.chat_template.render(turns, None if answer is None else self._broken(answer))

    def _broken(self, text: str) -> str:
        return break_names(text, self._names) if self._names_pattern.search(text) else text

    @cached_property
    def _names(self) -> dict[str, int]:
        """Ids of the tokens that only a template may write, by their text."""
        return {t.content: i for i, t in self.backend.get_added_tokens_decoder().items() if t.special and t.content}

    @cached_property
    def _names_pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._names)) or "(?!)")

    def _encode_rendered(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of what a chat template wrote: its special tokens as tokens, what a message spells as text."""
        found = [encoding.ids for encoding in self._recognising.encode_batch(list(texts), add_special_tokens=False)]
        for i, text in enumerate(texts):
            if BREAK in text:
                found[i] = self._encode_broken(text)
        return found

    def _encode_broken(self, text: str) -> list[int]:
        """Under other names the special tokens are encoded as ever, and their own names are text like any other."""
        backend, renamed, ids = self._renaming
        named = self._names_pattern.sub(lambda match: renamed[match.group()], text)
        encoding = backend.encode(named.replace(BREAK, ""), add_special_tokens=False)
        plain = (self._plain([i]) if i not in ids else [ids[i]] for i in encoding.ids)
        return [i for some in plain for i in some]

    @cached_property
    def _recognising(self) -> tokenizers.Tokenizer:
        """The backend that reads the name of a special token as that token."""
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        backend.encode_special_tokens = False
        return backend

    @cached_property
    def _renaming(self) -> tuple[tokenizers.Tokenizer, dict[str, str], dict[int, int]]:
        """The same with special tokens of other names; those names; and the id of each token by its id there."""
        content = json.loads(self.backend.to_str())
        renamed = {name: f"\ue001{number}\ue002" for number, name in enumerate(self._names)}
        for token in content["added_tokens"]:
            if token["special"]:
                token["content"] = renamed.get(token["content"], token["content"])
        content["post_processor"] = None  # which may name them
        backend = tokenizers.Tokenizer.from_str(json.dumps(content))
        backend.encode_special_tokens = False
        ids = {backend.token_to_id(new): self._names[name] for name, new in renamed.items()}
        return backend, renamed, {there: here for there, here in ids.items() if there is not None}

    def _first_of_prompts(self) -> int | None:
        """The token that every prompt begins with, if that is a special one."""
        if self.chat_template is None:
            return next(iter(self.special.prefix), None)
        first = self._encode_rendered([self._rendered("a")])[0][:1]
        return first[0] if first and first[0] in self._special else None

    def _turn_end(self) -> int | None:
        """The special token that the chat template writes behind an answer."""
        if self.chat_template is None:
            return None
        answer = "qzjx"  # of no template
        try:
            text = self._rendered("a", answer)
        except UserError:
            return None
        behind = self._encode_rendered([text[text.rfind(answer) + len(answer) :]])[0] if answer in text else []
        return next((i for i in behind if i in self._special), None)


@dataclass(frozen=True)
class IdTokenizer:
    """Stands in for a tokenizer where documents are token ids already: a text is numbers between spaces.

    Attributes:
        vocabulary: no end of text; the oracle's start token is the beginning of text and the padding.
    """

    vocabulary: Vocabulary

    def encode(self, text: str) -> list[int]:
        """The ids that a text names. Raises UserError for a word that is no id of the vocabulary."""
        if unknown := self.unknown_words(text):
            raise UserError(f"{unknown[0]!r} is no token id; this text is made of 0 to {self.vocabulary.size - 1}")
        return [int(word) for word in text.split()]

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
        """The same ids: such texts have no end."""
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The ids as decimal numbers, joined by spaces."""
        return " ".join(str(int(i)) for i in ids)

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that are no ids of the vocabulary."""
        return [w for w in text.split() if not (w.isdecimal() and int(w) < self.vocabulary.size)]

    def save(self, folder: str | Path) -> None:
        """Writes ids.json into a folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        content = {"vocab_size": self.vocabulary.size, "start_token": self.vocabulary.bos_id}
        write_whole(Path(folder) / IDS_FILE, json.dumps(content).encode())


AnyTokenizer = Tokenizer | IdTokenizer


def fit_tokenizer(config: WordTokenizer | BpeTokenizer | FileTokenizer, corpus: Corpus) -> AnyTokenizer:
    """Builds the tokenizer of a run from the training split and nothing else.

    A word-level tokenizer takes the lexicon of the corpus where that is known, so that no text of it has an unknown
    word. A corpus of token ids (the oracle's) has an `IdTokenizer`, whatever the config says.

    Raises:
        UserError: a tokenizer.json that is missing, broken, or has no end-of-text token.
    """
    if isinstance(corpus.source, Oracle):
        return _id_tokenizer(corpus.source.vocab_size, corpus.source.start_token)
    match config:
        case WordTokenizer():
            return _fit_words(config, corpus)
        case BpeTokenizer():
            return _fit_bpe(config, corpus)
        case FileTokenizer():
            return read_tokenizer(config.path)
    raise TypeError(f"no tokenizer config: {config!r}")


def load_tokenizer(folder: str | Path) -> AnyTokenizer:
    """Reads what `save` wrote into a folder. Raises UserError where there is no tokenizer."""
    path = Path(folder) / IDS_FILE
    if path.is_file():
        content = read_json(path)
        try:
            return _id_tokenizer(int(content["vocab_size"]), int(content["start_token"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: should hold vocab_size and start_token, two whole numbers") from error
    return _saved_tokenizer(Path(folder) / TOKENIZER_FILE)


def read_tokenizer(path: str | Path) -> Tokenizer:
    """Reads a tokenizer.json, with the special tokens that the files beside it name; see `special_tokens`.

    Where no beginning of text is found, the end of text serves (as in GPT-2), and so it does for padding.

    Raises:
        UserError: no such file, not a tokenizer, or no end-of-text token.
    """
    path = Path(path).expanduser()
    backend = _backend(path)
    return _with_template(_wrapped(backend, read_special_tokens(backend, path.parent, str(path)), str(path)), path)


def _backend(path: Path) -> tokenizers.Tokenizer:
    if not path.is_file():
        raise UserError(f"{path}: no such file; tokenizer.path should name a tokenizer.json")
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"{path}: not a tokenizer.json of Hugging Face tokenizers ({error})") from error
    # A file may cut or pad every text, or read "<eos>" in a text as the token; neither may happen here.
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def _wrapped(backend: tokenizers.Tokenizer, special: SpecialTokens, where: str) -> Tokenizer:
    file = Path(where).with_name(SPECIALS_FILE)
    size = (read_json(file) if file.is_file() else {}).get(PADDED_SIZE, _size(backend))
    if isinstance(size, bool) or not isinstance(size, int) or not _size(backend) <= size < 2**31:
        raise UserError(f"{where}: {PADDED_SIZE} {repr(size)[:40]} should be a whole number, at least {_size(backend)}")
    eos = special.ends_text
    vocabulary = Vocabulary(
        size=size,
        pad_id=eos if special.pad is None else special.pad,
        bos_id=special.begins_text,
        eos_id=eos,
        other_ends=tuple(i for i in special.ends if i != eos),
    )
    return Tokenizer(backend, vocabulary, special)


def _with_template(tokenizer: Tokenizer, path: Path) -> Tokenizer:
    """The tokenizer with the chat template that lies beside its file."""
    names = {key: name for key, name in tokenizer.special.names.items() if name is not None}
    file = path.with_name(SPECIALS_FILE)
    template = read_template(path.parent, read_json(file) if file.is_file() else {}, names)
    return tokenizer if template is None else dataclasses.replace(tokenizer, chat_template=template)


def _saved_tokenizer(path: Path) -> Tokenizer:
    """What `Tokenizer.save` wrote. Older runs have no record of how they read: BOS stood before each prompt."""
    backend, file = _backend(path), path.with_name(SPECIALS_FILE)
    own = (read_json(file) if file.is_file() else {}).get(OWN_KEY)
    special = read_special_tokens(backend, path.parent, str(path))
    if own is None:
        special = dataclasses.replace(special, prefix=(special.begins_text,), ends=(special.ends_text,))
        return _with_template(_wrapped(backend, special, str(path)), path)
    try:
        vocabulary = Vocabulary(**(own["vocabulary"] | {"other_ends": tuple(own["vocabulary"]["other_ends"])}))
        special = dataclasses.replace(
            special,
            begins_text=own["begins_text"],
            prefix=tuple(own["prefix"]),
            ends=tuple(own["ends"]),
            unk=own["unk"],
        )
        tokenizer = _with_template(Tokenizer(backend, vocabulary, special), path)
        template = tokenizer.chat_template
        if template is not None:
            options = tuple(sorted(own["template_options"].items()))
            template = dataclasses.replace(template, options=options, now=own["template_now"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: {OWN_KEY} is damaged ({type(error).__name__}: {error})") from error
    return dataclasses.replace(tokenizer, chat_template=template)


def _own(backend: tokenizers.Tokenizer) -> Tokenizer:
    """The tokenizer of one that was fitted here."""
    vocabulary = backend.get_vocab(with_added_tokens=True)
    pad, bos, eos, unk = (vocabulary[name] for name in SPECIAL_TOKENS)
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL_TOKENS, strict=True))
    special = SpecialTokens(names, pad, unk, bos, (bos,), eos, (eos,))
    backend.encode_special_tokens = True
    return Tokenizer(backend, Vocabulary(_size(backend), pad, bos, eos), special)


def _size(backend: tokenizers.Tokenizer) -> int:
    return max(backend.get_vocab(with_added_tokens=True).values()) + 1


def _fit_words(config: WordTokenizer, corpus: Corpus) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.WordLevel({}, unk_token="<unk>"))
    splitter = pre_tokenizers.WhitespaceSplit()
    backend.pre_tokenizer = splitter
    lower = normalizers.Lowercase()
    if config.lowercase:
        backend.normalizer = lower
    counts: Counter[str] = Counter()
    for text in corpus.words or _training_texts(corpus):
        normalised = lower.normalize_str(text) if config.lowercase else text
        counts.update(word for word, _ in splitter.pre_tokenize_str(normalised))
    least = config.min_count if corpus.words is None else 1
    known = [word for word, count in counts.items() if count >= least and word not in SPECIAL_TOKENS]
    kept = (*SPECIAL_TOKENS, *sorted(known, key=lambda word: (-counts[word], word)))
    if config.vocab_size is not None and config.vocab_size < len(kept):
        if corpus.words is not None:
            raise UserError(
                f"tokenizer.vocab_size: {config.vocab_size} is too small for this corpus, whose lexicon makes"
                f" {len(kept)} tokens; raise it or leave it out"
            )
        kept = kept[: config.vocab_size]
    backend.model = models.WordLevel({word: i for i, word in enumerate(kept)}, unk_token="<unk>")
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return _own(backend)


def _fit_bpe(config: BpeTokenizer, corpus: Corpus) -> Tokenizer:
    prompts = [prompt_text(prompt) for prompt in corpus.train.prompts or ()]
    return _own(fit_byte_pairs(corpus.train.texts, prompts, config.vocab_size, SPECIAL_TOKENS))


def _training_texts(corpus: Corpus) -> Iterator[str]:
    yield from corpus.train.texts
    yield from map(prompt_text, corpus.train.prompts or ())


def _id_tokenizer(vocab_size: int, start_token: int) -> IdTokenizer:
    return IdTokenizer(Vocabulary(vocab_size, pad_id=start_token, bos_id=start_token, eos_id=None))
