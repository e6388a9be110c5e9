"""A generator of one vocabulary as one of another: rows of its embedding and columns of its output layer, by token.

A token that both vocabularies have keeps what the old one learned of it, and so do special tokens of the same role. A
new token takes the mean over the old vocabulary's tokens (Hewitt 2021, "Initializing New Word Embeddings for Pretrained
Language Models"). Its logit is then the mean of the old logits, so at no prefix is it likelier than 1 / V of what the
old tokens have together, and what the generator says of the old ones stays as it was. A row drawn at random has a logit
of any size, which can outweigh all that was learned. All new tokens begin alike; the first updates tell them apart, by
where they occur.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptgan_jax.data.tokenizers import Tokenizer
from gptgan_jax.tokenization.token_texts import is_of_words, token_texts
from gptgan_jax.types import Array, Params, path_name

# From the last two names of a generator's parameter to its axis of tokens.
TOKEN_AXES = {"embedding/table": 0, "head/kernel": -1, "head/bias": -1}


@dataclass(frozen=True, eq=False)
class Rows:
    """Where the rows of a new vocabulary come from.

    Attributes:
        old: int32 [V], the row of the old vocabulary that a new token takes; -1 for one that is new.
        averaged: bool [V of the old], the rows whose mean that one takes: those that stand for a token.
    """

    old: np.ndarray
    averaged: np.ndarray

    @property
    def new(self) -> int:
        """How many tokens are new."""
        return int((self.old < 0).sum())


def rows_by_token(old: Tokenizer, new: Tokenizer) -> Rows:
    """The rows of `new`'s tokens among `old`'s: special ones by their role or name, the others by their text.

    A word between spaces is its text with the space before it, or without, as at the beginning of a text, where the old
    vocabulary has it so alone.
    """
    ids = old.backend.get_vocab(with_added_tokens=True)
    rows = np.full(new.vocabulary.size, -1, np.int32)
    texts = token_texts(new.backend)
    old_texts: dict[bytes, int] = {}
    for i, text in sorted(
        token_texts(old.backend).items(), key=lambda pair: len(old.backend.id_to_token(pair[0]) or "")
    ):
        old_texts.setdefault(text, i)  # of a letter and the same as a byte, the letter
    of_words = is_of_words(new.backend)
    for token, i in new.backend.get_vocab(with_added_tokens=True).items():
        if i not in texts:
            rows[i] = ids.get(token, -1)
            continue
        spellings = [texts[i], texts[i].removeprefix(b" ")] if of_words else [texts[i]]
        rows[i] = next((old_texts[text] for text in spellings if text in old_texts), -1)
    for mine, theirs in zip(_roles(new), _roles(old), strict=True):
        if mine is not None:
            rows[mine] = -1 if theirs is None else theirs
    averaged = np.zeros(old.vocabulary.size, bool)
    averaged[list(ids.values())] = True
    return Rows(rows, averaged)


def with_rows(params: Params, rows: Rows) -> Params:
    """A generator's parameters for the new vocabulary: every array with an axis of tokens takes its rows along that."""

    def taken(path: tuple[Any, ...], x: Array) -> Array:
        axis = token_axis(path_name(path))
        if axis is None:
            return x
        mean = jnp.mean(x, axis, keepdims=True, where=_along(rows.averaged, axis, x.ndim))
        chosen = jnp.take(x, np.maximum(rows.old, 0), axis=axis)
        return jnp.where(_along(rows.old >= 0, axis, x.ndim), chosen, mean)

    return jax.tree.map_with_path(taken, params)


def token_axis(path: str) -> int | None:
    """Which dimension of a generator's parameter counts tokens, by its path; None where none does."""
    return TOKEN_AXES.get("/".join(path.split("/")[-2:]))


def _along(values: np.ndarray, axis: int, dimensions: int) -> np.ndarray:
    shape = [1] * dimensions
    shape[axis] = len(values)
    return values.reshape(shape)


def _roles(tokenizer: Tokenizer) -> tuple[int | None, ...]:
    """Padding, beginning, unknown and end of text: where one token has several roles, the last of them counts."""
    vocabulary = tokenizer.vocabulary
    return vocabulary.pad_id, vocabulary.bos_id, tokenizer.unk_id, vocabulary.eos_id
