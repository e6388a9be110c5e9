"""The tokenizer of a run: trained on its training text, or read from files."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import tokenizers
from pydantic import Field, model_validator
from tokenizers import models, normalizers, pre_tokenizers

from gptgan_jax.data.corpora import Corpus
from gptgan_jax.errors import UserError, suggests_names
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.sources.oracle import Oracle
from gptgan_jax.tokenization.byte_pairs import fit_byte_pairs
from gptgan_jax.tokenization.characters import fit_characters
from gptgan_jax.tokenization.chat_templates import prompt_text, read_template
from gptgan_jax.tokenization.special_tokens import (
    SPECIALS_FILE,
    TOKENIZER_FILE,
    SpecialTokens,
    add_named_tokens,
    read_json,
    read_special_tokens,
)
from gptgan_jax.tokenization.token_ids import MOST_IDS, ids_backend, parse_ids, size_of_ids
from gptgan_jax.tokenization.tokenizer import (
    IDS_FILE,
    OWN_KEY,
    PADDED_SIZE,
    AnyTokenizer,
    EndedIdTokenizer,
    IdTokenizer,
    Tokenizer,
    vocabulary_size,
)
from gptgan_jax.types import Vocabulary

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")


@config_dataclass
class WordTokenizer:
    """One token per word between spaces, as in the text-GAN literature."""

    kind: Literal["word"] = key("word", "one token per word")
    vocab_size: int | None = key(None, "keep the most frequent words, counting special tokens; null: all", ge=5)
    min_count: int = key(1, "keep words with at least this count in the training text (a known lexicon is kept)", ge=1)
    lowercase: bool = key(False, "convert text to lower case first")


@config_dataclass
class BpeTokenizer:
    """Byte-level byte-pair encoding, trained on the corpus; it can encode any text."""

    kind: Literal["bpe"] = key("bpe", "byte-level BPE trained on the corpus")
    vocab_size: int = key(8000, "maximum number of tokens, counting the 256 bytes and 4 special tokens", ge=260)


@config_dataclass
class CharacterTokenizer:
    """One token per character (Unicode code point), including white space, for any script or symbols."""

    kind: Literal["character"] = key("character", "one token per character, or per symbol of several characters")
    vocab_size: int | None = key(None, "keep the most frequent ones, counting special tokens; null: all", ge=5)
    min_count: int = key(1, "keep characters with at least this count in the training text", ge=1)
    alphabet: str | tuple[str, ...] | None = key(
        None, "all characters as one string, or symbols in a list; null: those of the training text"
    )
    symbols: str | None = key(
        None,
        "regular expression for several characters that form one token, such as Cl|Br|\\[[^\\]]+\\] for molecules; "
        "\\X: a character as a reader sees it, with its accents",
        min_length=1,
    )

    @model_validator(mode="after")
    def _check(self) -> "CharacterTokenizer":
        if self.alphabet is not None and (self.vocab_size is not None or self.min_count > 1):
            raise ValueError("alphabet says which tokens there are; drop vocab_size and min_count, or alphabet")
        return self


@config_dataclass
class IdsTokenizer:
    """For text that is already token ids, numbers separated by spaces: `12 7 4055 3`. Special tokens get the ids after
    them."""

    kind: Literal["ids"] = key("ids", "texts are already token ids, numbers separated by spaces")
    vocab_size: int | None = key(
        None, "number of ids, from 0; null: up to the largest in the training text", ge=1, le=MOST_IDS
    )


@config_dataclass
class FileTokenizer:
    """An existing tokenizer."""

    kind: Literal["file"] = key("file", "a tokenizer.json of Hugging Face tokenizers")
    path: str = key(
        "tokenizer.json", "the file; special tokens are read from a tokenizer_config.json beside it", min_length=1
    )


TokenizerConfig = Annotated[
    WordTokenizer | CharacterTokenizer | BpeTokenizer | IdsTokenizer | FileTokenizer, Field(discriminator="kind")
]


@suggests_names
def fit_tokenizer(
    config: WordTokenizer | CharacterTokenizer | BpeTokenizer | IdsTokenizer | FileTokenizer, corpus: Corpus
) -> AnyTokenizer:
    """Builds the tokenizer of a run from the training split only.

    A word-level tokenizer uses the lexicon of the corpus if that is known, so that no text of it has an unknown word. A
    corpus of token ids (the oracle's) has an `IdTokenizer`, regardless of the config.

    Raises:
        UserError: a tokenizer.json that is missing, broken, or without an end-of-text token; an invalid pattern or
            alphabet; text that should be token ids but is not.
    """
    if isinstance(corpus.source, Oracle):
        return _id_tokenizer(corpus.source.vocab_size, corpus.source.start_token)
    match config:
        case WordTokenizer():
            return _fit_words(config, corpus)
        case CharacterTokenizer():
            return _fit_characters(config, corpus)
        case BpeTokenizer():
            return _fit_bpe(config, corpus)
        case IdsTokenizer():
            return _fit_ids(config, corpus)
        case FileTokenizer():
            return read_tokenizer(config.path)
    raise TypeError(f"no tokenizer config: {config!r}")


@suggests_names
def load_tokenizer(folder: str | Path) -> AnyTokenizer:
    """Reads the output of `save` from a folder. Raises UserError if there is no tokenizer."""
    path = Path(folder) / IDS_FILE
    if path.is_file():
        content = read_json(path)
        try:
            return _id_tokenizer(int(content["vocab_size"]), int(content["start_token"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: should hold vocab_size and start_token, two whole numbers") from error
    return _saved_tokenizer(Path(folder) / TOKENIZER_FILE)


@suggests_names
def read_tokenizer(path: str | Path) -> Tokenizer:
    """Reads a tokenizer.json, with the special tokens that the files next to it name; see `special_tokens`.

    Without a beginning of text or padding token, the end of text takes its place (as in GPT-2).

    Raises:
        UserError: no such file, not a tokenizer, or no end-of-text token.
    """
    path = Path(path).expanduser()
    backend = _backend(path)
    return _with_template(_wrapped(backend, read_special_tokens(backend, path.parent, str(path)), str(path)), path)


def _backend(path: Path, own: bool = False) -> tokenizers.Tokenizer:
    """The tokenizer in a file; a run's `own` has its special tokens there."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; tokenizer.path should name a tokenizer.json")
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"{path}: not a tokenizer.json of Hugging Face tokenizers ({error})") from error
    if not own:
        add_named_tokens(backend, path.parent)
    # A file may truncate or pad every text, or read "<eos>" in a text as the token; neither may happen here.
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def _wrapped(backend: tokenizers.Tokenizer, special: SpecialTokens, where: str) -> Tokenizer:
    file = Path(where).with_name(SPECIALS_FILE)
    size = (read_json(file) if file.is_file() else {}).get(PADDED_SIZE, vocabulary_size(backend))
    if isinstance(size, bool) or not isinstance(size, int) or not vocabulary_size(backend) <= size < 2**31:
        raise UserError(
            f"{where}: {PADDED_SIZE} {repr(size)[:40]} should be a whole number, at least {vocabulary_size(backend)}"
        )
    eos = special.ends_text
    vocabulary = Vocabulary(
        size=size,
        pad_id=eos if special.pad is None else special.pad,
        bos_id=special.begins_text,
        eos_id=eos,
        other_ends=tuple(i for i in special.ends if i != eos),
    )
    return _of(backend)(backend, vocabulary, special)


def _of(backend: tokenizers.Tokenizer) -> type[Tokenizer]:
    """The class for a backend: whether its texts are token ids."""
    return Tokenizer if size_of_ids(backend) is None else EndedIdTokenizer


def _with_template(tokenizer: Tokenizer, path: Path) -> Tokenizer:
    """The tokenizer with the chat template from the same folder."""
    names = {key: name for key, name in tokenizer.special.names.items() if name is not None}
    file = path.with_name(SPECIALS_FILE)
    template = read_template(path.parent, read_json(file) if file.is_file() else {}, names)
    return tokenizer if template is None else dataclasses.replace(tokenizer, chat_template=template)


def _saved_tokenizer(path: Path) -> Tokenizer:
    """Reads the output of `Tokenizer.save`. Older runs don't record how they read: BOS came before each prompt."""
    file = path.with_name(SPECIALS_FILE)
    own = (read_json(file) if file.is_file() else {}).get(OWN_KEY)
    backend = _backend(path, own is not None)
    special = read_special_tokens(backend, path.parent, str(path))
    if own is None:
        special = dataclasses.replace(special, prefix=(special.begins_text,), ends=(special.ends_text,))
        return _with_template(_wrapped(backend, special, str(path)), path)
    try:
        if own["tokens"] != vocabulary_size(backend):
            raise UserError(f"{path} has {vocabulary_size(backend)} tokens, and that of this run {own['tokens']}")
        vocabulary = Vocabulary(**(own["vocabulary"] | {"other_ends": tuple(own["vocabulary"]["other_ends"])}))
        special = dataclasses.replace(
            special,
            names=dict(own.get("names", special.names)),
            begins_text=own["begins_text"],
            prefix=tuple(own["prefix"]),
            ends=tuple(own["ends"]),
            unk=own["unk"],
        )
        tokenizer = _with_template(_of(backend)(backend, vocabulary, special), path)
        template = tokenizer.chat_template
        if template is not None:
            options = tuple(sorted(own["template_options"].items()))
            template = dataclasses.replace(template, options=options, now=own["template_now"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: {OWN_KEY} is damaged ({type(error).__name__}: {error})") from error
    return dataclasses.replace(tokenizer, chat_template=template)


def _own(backend: tokenizers.Tokenizer) -> Tokenizer:
    """The `Tokenizer` of a backend that was trained here."""
    vocabulary = backend.get_vocab(with_added_tokens=True)
    pad, bos, eos, unk = map(vocabulary.get, SPECIAL_TOKENS)
    assert pad is not None
    assert bos is not None
    assert eos is not None
    roles = ("pad_token", "bos_token", "eos_token", "unk_token")
    names = {role: name for role, name in zip(roles, SPECIAL_TOKENS, strict=True) if name in vocabulary}
    special = SpecialTokens(names, pad, unk, bos, (bos,), eos, (eos,))
    backend.encode_special_tokens = True
    return _of(backend)(backend, Vocabulary(vocabulary_size(backend), pad, bos, eos), special)


def _fit_words(config: WordTokenizer, corpus: Corpus) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.WordLevel({}, unk_token="<unk>"))
    splitter = pre_tokenizers.WhitespaceSplit()
    backend.pre_tokenizer = splitter
    # Sigma first: JavaScript's reader of the exported file would lowercase it to ς at the end of a Greek word.
    lower = normalizers.Sequence([normalizers.Replace("Σ", "σ"), normalizers.Lowercase()])
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


def _fit_characters(config: CharacterTokenizer, corpus: Corpus) -> Tokenizer:
    """Uses a known lexicon for the alphabet, so that none of its characters is unknown."""
    lexicon = corpus.words is not None and config.alphabet is None
    texts = [*(corpus.words or ()), " ", *_training_texts(corpus)] if lexicon else _training_texts(corpus)
    least = 1 if lexicon else config.min_count
    return _own(fit_characters(texts, SPECIAL_TOKENS, config.vocab_size, least, config.alphabet, config.symbols))


def _fit_ids(config: IdsTokenizer, corpus: Corpus) -> Tokenizer:
    size = config.vocab_size
    if size is None:
        size = 1 + max((max(parse_ids(text), default=0) for text in _training_texts(corpus)), default=0)
    return _own(ids_backend(size, SPECIAL_TOKENS[:3]))


def _fit_bpe(config: BpeTokenizer, corpus: Corpus) -> Tokenizer:
    prompts = [prompt_text(prompt) for prompt in corpus.train.prompts or ()]
    return _own(fit_byte_pairs(corpus.train.texts, prompts, config.vocab_size, SPECIAL_TOKENS))


def _training_texts(corpus: Corpus) -> Iterator[str]:
    yield from corpus.train.texts
    yield from map(prompt_text, corpus.train.prompts or ())


def _id_tokenizer(vocab_size: int, start_token: int) -> IdTokenizer:
    return IdTokenizer(Vocabulary(vocab_size, pad_id=start_token, bos_id=start_token, eos_id=None))
