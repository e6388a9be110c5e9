"""Texts that are already token ids: integers separated by spaces, such as `12 7 4055 3`."""

import tokenizers
from tokenizers import models, pre_tokenizers

from gptgan_jax.errors import UserError

# More ids than any vocabulary has.
MOST_IDS = 2_000_000
# The most characters of a bad id in a message.
_LONGEST_SHOWN = 40


class TokenIds(str):
    """A text that was a list of integers in its file; only a tokenizer of ids may read it.

    Attributes:
        said: its place and content, for messages.
    """

    said: str

    def __new__(cls, text: str, said: str = "") -> "TokenIds":
        made = super().__new__(cls, text)
        made.said = said
        return made


class BadTokenId(UserError):
    """A text that is not made of token ids.

    Attributes:
        word: the word that is not an id, by which its place in a file can be found.
        too_large: whether it is a number beyond the largest id.
    """

    def __init__(self, word: str, expected: str, too_large: bool = False) -> None:
        shown = repr(word if len(word) <= _LONGEST_SHOWN else word[:_LONGEST_SHOWN] + "…")
        super().__init__(f"{shown} is no token id; {expected}")
        self.word, self.too_large = word, too_large


def is_number(word: str) -> bool:
    """Whether a word is an integer of digits only, without a sign."""
    return word.isascii() and word.isdecimal()


def parse_ids(text: str, limit: int = MOST_IDS) -> list[int]:
    """The ids in a text.

    Args:
        text: numbers separated by white space; 007 is 7.
        limit: the number of ids, from 0.

    Raises:
        BadTokenId: a word that is not an integer, or is too large.
    """
    words = text.split()
    joined = "".join(words)
    if joined.isascii() and joined.isdecimal() and len(max(words, key=len)) < _LONGEST_SHOWN:
        ids = list(map(int, words))
        largest = max(ids)
        if largest < limit:
            return ids
        raise BadTokenId(words[ids.index(largest)], f"this text is made of 0 to {limit - 1}", too_large=True)
    if not words:
        return []
    wrong = next((word for word in words if not is_number(word)), None)
    if wrong is None:
        raise BadTokenId(max(words, key=len), f"this text is made of 0 to {limit - 1}", too_large=True)
    raise BadTokenId(wrong, "ids are whole numbers from 0, between spaces")


def unknown_ids(text: str, size: int) -> list[str]:
    """The words of a text that are not ids below `size`."""
    return [w for w in text.split() if not (is_number(w) and len(w) < _LONGEST_SHOWN and int(w) < size)]


def ids_backend(size: int, special: tuple[str, ...]) -> tokenizers.Tokenizer:
    """A tokenizer whose token i is the number i, for i below `size`; the special tokens come after."""
    vocabulary = {str(i): i for i in range(size)} | {name: size + i for i, name in enumerate(special)}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=""))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(list(special))
    return backend


def size_of_ids(backend: tokenizers.Tokenizer) -> int | None:
    """The number of ids of a tokenizer from `ids_backend`; None for any other."""
    if not isinstance(backend.model, models.WordLevel) or backend.token_to_id("0") != 0:
        return None
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    names = backend.get_vocab(with_added_tokens=True)
    size = len(names) - len(special)
    numbers = all(name in special or (i < size and name == str(i)) for name, i in names.items())
    return size if numbers and backend.token_to_id(getattr(backend.model, "unk_token", "")) is None else None
