"""Generates a text token by token, so that it can be shown as it is generated.

`sampling.sample` runs one compiled loop and returns nothing before its end. Here one compiled step generates each
token; with the same key, prompt and sampling settings both generate the same text.
"""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.generation.texts import Drawing
from gptgan_jax.models.generators import Generator
from gptgan_jax.sampling.decoding import draw, shape_logits
from gptgan_jax.types import Array, Params, PyTree

# A decoder's output for bytes that are not a complete character.
_PARTIAL = "\ufffd"


class TokenStream:
    """Generates answers to prompts of any length up to the longest; compiled once for all of them."""

    def __init__(
        self, generator: Generator, params: Params, drawing: Drawing, longest_prompt: int, length: int
    ) -> None:
        """Prompts are padded to the longest, so that no length needs another compilation.

        Args:
            generator: the network.
            params: its parameters.
            drawing: the sampling settings.
            longest_prompt: in tokens, without the beginning of text.
            length: the maximum length of an answer.
        """
        self._params = params
        self._width = 1 + longest_prompt
        self._length = length
        self._vocabulary = generator.vocabulary
        temperature, options = drawing.temperature, drawing.options()

        def drawn(key: Array, logits: Array, written: Array | int) -> Array:
            shaped = shape_logits(logits, temperature, **options)
            return draw(jax.random.fold_in(key, written), shaped)[0]

        def first(params: Params, key: Array, prompt: Array, mask: Array) -> tuple[Array, PyTree]:
            logits, cache = generator.prefill(params, prompt, mask, length)
            return drawn(key, logits, 0), cache

        def following(params: Params, cache: PyTree, key: Array, last: Array, written: Array) -> tuple[Array, PyTree]:
            logits, cache = generator.decode(params, cache, last)
            return drawn(key, logits, written), cache

        self._first = jax.jit(first)
        self._following = jax.jit(following, donate_argnums=1)

    def __call__(self, key: Array, prompt: Sequence[int]) -> Iterator[int]:
        """The tokens of one answer as they are generated, without the end of text.

        Args:
            key: equal keys give equal answers.
            prompt: token ids without the beginning of text.

        Raises:
            ValueError: for a prompt longer than `longest_prompt`.
        """
        row = self._vocabulary.begun(prompt)
        if len(row) > self._width:
            raise ValueError(f"a prompt of {len(prompt)} tokens; the longest has {self._width - 1}")
        tokens = np.full((1, self._width), self._vocabulary.pad_id, np.int32)
        tokens[0, self._width - len(row) :] = row
        mask = np.arange(self._width)[None] >= self._width - len(row)
        last, cache = self._first(self._params, key, tokens, mask)
        for written in range(1, self._length + 1):
            token = int(last[0])
            if token in self._vocabulary.ends:
                return
            yield token
            if written < self._length:
                last, cache = self._following(self._params, cache, key, last, jnp.int32(written))


class WholeCharacters:
    """Turns token ids into text without splitting characters: a token may be only part of a character."""

    def __init__(self, tokenizer: AnyTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = ""

    def add(self, token: int) -> str:
        """The text that this token completes, possibly empty."""
        self._ids.append(token)
        return self._new(self._tokenizer.decode(self._ids).rstrip(_PARTIAL))

    def rest(self) -> str:
        """The rest of the text at the end, including incomplete characters."""
        return self._new(self._tokenizer.decode(self._ids))

    @property
    def text(self) -> str:
        """The text of all tokens."""
        return self._tokenizer.decode(self._ids)

    def _new(self, text: str) -> str:
        """The part of the text that is not shown yet; empty if the decoder has changed the part that was shown."""
        new = text[len(self._shown) :] if text.startswith(self._shown) else ""
        self._shown = text
        return new
