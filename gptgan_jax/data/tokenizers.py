"""Text to token ids and back: word-level, byte-level BPE, any tokenizer.json, and plain ids for the oracle.

Everything that touches characters is done by Hugging Face `tokenizers`; this file decides what counts as special.
Special tokens never come out of encoding a text, not even where the text spells "<eos>".
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import tokenizers
from pydantic import Field
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from gptgan_jax.data.chat_templates import (
    TEMPLATE_KEY,
    ChatTemplate,
    Message,
    Prompt,
    plain_text,
    prompt_text,
    read_template,
    turns_of,
)
from gptgan_jax.data.corpora import Corpus
from gptgan_jax.data.oracle import Oracle
from gptgan_jax.errors import UserError
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.types import Vocabulary

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
TOKENIZER_FILE, SPECIALS_FILE, IDS_FILE = "tokenizer.json", "tokenizer_config.json", "ids.json"
# In tokenizer_config.json: how many ids a vocabulary has of which not all are tokens; see `Tokenizer.padded`.
PADDED_SIZE = "padded_vocab_size"
# What the tokens are called in published files, the surest name first.
USUAL_NAMES = {
    "pad": ("<pad>", "[PAD]", "<|pad|>", "<|padding|>"),
    "bos": ("<bos>", "[BOS]", "<s>", "<|begin_of_text|>", "<|startoftext|>", "<|bos|>", "[CLS]"),
    "eos": ("<eos>", "[EOS]", "</s>", "<|endoftext|>", "<|end_of_text|>", "<|eos|>", "<|im_end|>", "[SEP]"),
    "unk": ("<unk>", "[UNK]", "<|unk|>"),
}


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
        unk_id: stands for what has no token of its own; None where nothing is ever unknown.
        chat_template: how it writes the turns of a conversation; None: `chat_templates.plain_text`.
    """

    backend: tokenizers.Tokenizer
    vocabulary: Vocabulary
    unk_id: int | None
    chat_template: ChatTemplate | None = None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; no special tokens are added."""
        return self._plain(self.backend.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, in parallel."""
        return [self._plain(e.ids) for e in self.backend.encode_batch(list(texts), add_special_tokens=False)]

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the turns that the next one answers, without a beginning of text, which each prompt gets.

        Raises:
            UserError: where the chat template refuses these turns.
        """
        if self.chat_template is None:
            return self.encode(plain_text(messages))
        ids: list[int] = []
        for piece in self.chat_template.pieces(messages, self._special_names):
            ids += [piece] if isinstance(piece, int) else self.encode(piece)
        return ids[1:] if ids[:1] == [self.vocabulary.bos_id] else ids

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """`encode_chat` of each."""
        if self.chat_template is None:
            return self.encode_batch([prompt_text(prompt) for prompt in prompts])
        return [self.encode_chat(turns_of(prompt)) for prompt in prompts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids up to the first end of text; special tokens other than the unknown are left out."""
        return self.backend.decode([i for i in _until(ids, self.vocabulary.eos_id) if i not in self._special], False)

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

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json (the names of the special tokens) into a folder."""
        roles = {"pad": self.vocabulary.pad_id, "bos": self.vocabulary.bos_id, "eos": self.vocabulary.eos_id}
        ids = {role: i for role, i in (roles | {"unk": self.unk_id}).items() if i is not None}
        names: dict[str, Any] = {f"{role}_token": self.backend.id_to_token(i) for role, i in ids.items()}
        if self.vocabulary.size != _size(self.backend):
            names[PADDED_SIZE] = self.vocabulary.size
        if self.chat_template is not None:
            names[TEMPLATE_KEY] = self.chat_template.source
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.backend.save(str(Path(folder) / TOKENIZER_FILE))
        (Path(folder) / SPECIALS_FILE).write_text(json.dumps(names, indent=1, ensure_ascii=False), "utf-8")

    @cached_property
    def _special(self) -> frozenset[int]:
        """Ids that mean something other than text; the unknown is not among them, for a reader should see it."""
        v = self.vocabulary
        added = {i for i, token in self.backend.get_added_tokens_decoder().items() if token.special}
        return frozenset(i for i in added | {v.pad_id, v.bos_id, v.eos_id} if i is not None and i != self.unk_id)

    @cached_property
    def _special_names(self) -> dict[str, int]:
        """The special tokens that a chat template may write, by their text."""
        named = {i: self.backend.id_to_token(i) for i in self._special}
        return {name: i for i, name in named.items() if name}

    def _plain(self, ids: list[int]) -> list[int]:
        """A word-level vocabulary finds "<eos>" like any other word; such a word is unknown to it."""
        if self._special.isdisjoint(ids):
            return ids
        replaced = (self.unk_id if i in self._special else i for i in ids)
        return [i for i in replaced if i is not None]


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
        (Path(folder) / IDS_FILE).write_text(json.dumps(content), "utf-8")


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
        content = _read_json(path)
        try:
            return _id_tokenizer(int(content["vocab_size"]), int(content["start_token"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: should hold vocab_size and start_token, two whole numbers") from error
    return read_tokenizer(Path(folder) / TOKENIZER_FILE)


def read_tokenizer(path: str | Path) -> Tokenizer:
    """Reads a tokenizer.json.

    The special tokens are those that a tokenizer_config.json beside it names, else those with a usual name. Where no
    beginning of text is found, the end of text serves (as in GPT-2), and so it does for padding.

    Raises:
        UserError: no such file, not a tokenizer, or no end-of-text token.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such file; tokenizer.path should name a tokenizer.json")
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"{path}: not a tokenizer.json of Hugging Face tokenizers ({error})") from error
    specials = path.with_name(SPECIALS_FILE)
    names = _read_json(specials) if specials.is_file() else {}
    tokenizer = _wrap(backend, names, str(path))
    vocabulary = tokenizer.vocabulary
    ids = {"bos_token": vocabulary.bos_id, "eos_token": vocabulary.eos_id, "pad_token": vocabulary.pad_id}
    tokens = {name: backend.id_to_token(i) for name, i in ids.items() if i is not None}
    template = read_template(path.parent, names, {name: token for name, token in tokens.items() if token})
    return tokenizer if template is None else dataclasses.replace(tokenizer, chat_template=template)


def _wrap(backend: tokenizers.Tokenizer, names: dict[str, Any], where: str) -> Tokenizer:
    def special(role: str) -> int | None:
        named = names.get(f"{role}_token")
        named = named.get("content") if isinstance(named, dict) else named
        candidates = (named,) if isinstance(named, str) else USUAL_NAMES[role]
        found = (backend.token_to_id(name) for name in candidates)
        return next((i for i in found if i is not None), None)

    eos = special("eos")
    if eos is None:
        raise UserError(
            f"{where}: no end-of-text token; one of {', '.join(USUAL_NAMES['eos'])} should be in its vocabulary,"
            f' or a {SPECIALS_FILE} beside it should name it, as in {{"eos_token": "<stop>"}}'
        )
    bos, pad = special("bos"), special("pad")
    # A file may cut or pad every text, or read "<eos>" in a text as the token; neither may happen here.
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    size = names.get(PADDED_SIZE, _size(backend))
    if isinstance(size, bool) or not isinstance(size, int) or not _size(backend) <= size < 2**31:
        raise UserError(f"{where}: {PADDED_SIZE} {repr(size)[:40]} should be a whole number, at least {_size(backend)}")
    vocabulary = Vocabulary(size, eos if pad is None else pad, eos if bos is None else bos, eos)
    unk = special("unk")  # GPT-2's files call the end of text unknown too, though no byte is unknown to them
    return Tokenizer(backend, vocabulary, None if unk in (pad, bos, eos) else unk)


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
    return _wrap(backend, {}, "word tokenizer")


def _fit_bpe(config: BpeTokenizer, corpus: Corpus) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_training_texts(corpus), trainer)
    return _wrap(backend, {}, "BPE tokenizer")


def _training_texts(corpus: Corpus) -> Iterator[str]:
    yield from corpus.train.texts
    yield from map(prompt_text, corpus.train.prompts or ())


def _id_tokenizer(vocab_size: int, start_token: int) -> IdTokenizer:
    return IdTokenizer(Vocabulary(vocab_size, pad_id=start_token, bos_id=start_token, eos_id=None))


def _until(ids: Iterable[int], end: int | None) -> Iterator[int]:
    for i in ids:
        if i == end:
            return
        yield int(i)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: should hold a JSON object")
    return content
