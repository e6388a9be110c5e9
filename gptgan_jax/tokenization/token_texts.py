"""The text of each token, with its space, to compare the tokens of two tokenizers; and of several, as bytes may need.

"Ġcat" in a byte-level tokenizer, "▁cat" in a SentencePiece model and "cat" in a word-level one are all " cat".
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import tokenizers

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "▁"
_REPLACED = "\N{REPLACEMENT CHARACTER}"


def token_texts(backend: tokenizers.Tokenizer) -> dict[int, bytes]:
    """By id, the UTF-8 bytes of each token's text; special tokens have no text and are left out."""
    special = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
    added = set(backend.get_added_tokens_decoder())
    text_of = _reader(backend)
    vocabulary = backend.get_vocab(with_added_tokens=True)
    return {i: token.encode() if i in added else text_of(token) for token, i in vocabulary.items() if i not in special}


def decoder_of(backend: tokenizers.Tokenizer) -> Callable[[Sequence[int]], str]:
    """A function from token ids to their text, as `backend.decode` gives it, with special tokens.

    Only bytes that are no character are replaced. Where tokens stand for bytes (ByteFallback), the library replaces all
    of their run instead: of Thai that is cut within a character, every character back to the last space.
    """
    vocabulary = backend.get_vocab(with_added_tokens=False)
    bytes_of = {i: int(found[1], 16) for token, i in vocabulary.items() if (found := _BYTE.fullmatch(token))}
    if not bytes_of or "ByteFallback" not in _names(backend):
        return lambda ids: backend.decode(list(ids), False)

    def decode(ids: Sequence[int]) -> str:
        tokens: list[str] = []
        broken = False
        for is_bytes, run in groupby(ids, bytes_of.__contains__):
            if is_bytes:
                text = bytes(map(bytes_of.__getitem__, run)).decode(errors="replace")
                tokens.append(text)
                broken = broken or _REPLACED in text
            else:
                tokens += filter(None, map(backend.id_to_token, run))
        return backend.decoder.decode(tokens) if broken else backend.decode(list(ids), False)

    return decode


def is_of_words(backend: tokenizers.Tokenizer) -> bool:
    """Whether its tokens are words between spaces; each stands for the word and a space before it."""
    return type(backend.model).__name__ == "WordLevel" and not _names(backend) & {"ByteLevel", "Metaspace", "Fuse"}


def is_of_characters(backend: tokenizers.Tokenizer) -> bool:
    """Whether its tokens are characters, or symbols of several, with nothing between them."""
    return type(backend.model).__name__ == "WordLevel" and "Fuse" in _names(backend)


def _reader(backend: tokenizers.Tokenizer) -> Callable[[str], bytes]:
    names = _names(backend)
    if "ByteLevel" in names:
        return _byte_level
    if "Metaspace" in names or _SPACE in backend.to_str().partition('"vocab"')[0]:
        return _sentencepiece
    if "WordPiece" in names:
        return lambda token: token.removeprefix("##").encode() if token.startswith("##") else f" {token}".encode()
    return (lambda token: f" {token}".encode()) if is_of_words(backend) else str.encode


def _byte_level(token: str) -> bytes:
    parts = (bytes([_BYTES[c]]) if c in _BYTES else c.encode() for c in token)
    return b"".join(parts)


def _sentencepiece(token: str) -> bytes:
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(_SPACE, " ").encode()


def _names(backend: tokenizers.Tokenizer) -> set[str]:
    """The types of the backend's components."""
    content = json.loads(backend.to_str())
    return {name for part in ("normalizer", "pre_tokenizer", "decoder") for name in _types(content[part])}


def _types(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        if isinstance(tree.get("type"), str):
            yield tree["type"]
        for value in tree.values():
            yield from _types(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _types(value)


def _byte_alphabet() -> dict[str, int]:
    """By character, its byte in byte-level tokens; printable characters stand for themselves (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_alphabet()
