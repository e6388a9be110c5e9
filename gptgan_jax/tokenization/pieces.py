"""Splits a text into the pieces that its tokens stand for, to show a score with each token."""

import codecs
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gptgan_jax.tokenization.token_texts import is_of_words, token_texts
from gptgan_jax.tokenization.tokenizer import AnyTokenizer, IdTokenizer


class Piece(NamedTuple):
    """The text of one token.

    Attributes:
        text: what the token adds to the text before it. If several tokens make up a character, the last one has all of
            it; a special token has its name.
        special: whether it is not text, such as the end of text.
    """

    text: str
    special: bool


def piece_reader(tokenizer: AnyTokenizer) -> Callable[[Iterable[int]], list[Piece]]:
    """A function from the token ids of a text to one piece per token; joined, the pieces are the text."""
    if isinstance(tokenizer, IdTokenizer):
        return lambda ids: [Piece(f" {i}" if place else f"{i}", False) for place, i in enumerate(map(int, ids))]
    backend = tokenizer.backend
    texts = token_texts(backend)

    def read(ids: Iterable[int]) -> list[Piece]:
        ids = [int(i) for i in ids]
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        # Tokens of whole words have a space before them; the first one of a text has it only if it is written there.
        drops = not tokenizer.decode(ids).startswith(" ")
        pieces: list[Piece] = []
        for i in ids:
            if i not in texts:
                pieces.append(Piece(backend.id_to_token(i) or "", True))
                drops = False
                continue
            text = decoder.decode(texts[i])
            if drops and text:
                text, drops = text.removeprefix(" "), False
            pieces.append(Piece(text, False))
        unfinished = decoder.decode(b"", final=True)
        last = max((place for place, piece in enumerate(pieces) if not piece.special), default=-1)
        if unfinished:
            pieces[last] = Piece(pieces[last].text + unfinished, False)
        return pieces

    return read


def whole_words(tokenizer: AnyTokenizer) -> bool:
    """Whether each token is a word between spaces."""
    return isinstance(tokenizer, IdTokenizer) or is_of_words(tokenizer.backend)
