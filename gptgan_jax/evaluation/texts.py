"""Texts to be judged, and texts from a generator: token ids through the sampler, strings through the tokenizer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from gptgan_jax.data.batches import Ragged, TokenisedSplit
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.hosts import to_host
from gptgan_jax.models.generators import Generator
from gptgan_jax.sampling import sample
from gptgan_jax.types import Params, Sample


@dataclass(frozen=True)
class Drawing:
    """How texts are drawn: see `sampling.shape_logits`; top_k = 0 and top_p = 1 are off."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def options(self) -> dict[str, Any]:
        """top_k and top_p where they are on, as keywords of `sampling`."""
        on: dict[str, Any] = {"top_k": self.top_k} if self.top_k else {}
        return on | ({"top_p": self.top_p} if self.top_p < 1 else {})

    def __str__(self) -> str:
        described = f"temperature {self.temperature:g}" + (f", top-k {self.top_k}" if self.top_k else "")
        return described + (f", top-p {self.top_p:g}" if self.top_p < 1 else "")


@dataclass(frozen=True, eq=False)
class TextSet:
    """N texts.

    Attributes:
        texts: as strings.
        targets: as token ids; EOS ends each that was not cut off.
    """

    texts: list[str]
    targets: Ragged

    def __len__(self) -> int:
        return len(self.texts)

    def part(self, rows: np.ndarray | slice) -> "TextSet":
        """Some of them."""
        chosen = np.arange(len(self))[rows]
        return TextSet([self.texts[i] for i in chosen], self.targets.subset(chosen))


def text_set(split: TokenisedSplit, tokenizer: AnyTokenizer) -> TextSet:
    """The texts of a split, in the form that a generator's texts have: cut to length, unknown words as such."""
    return TextSet([tokenizer.decode(split.targets[i].tolist()) for i in range(len(split))], split.targets)


@dataclass(frozen=True, eq=False)
class Written:
    """Texts that a generator wrote.

    Attributes:
        texts: N strings.
        tokens: int32 [N, T].
        mask: bool [N, T]; covers EOS, not what comes after it.
        log_probs: float64 [N], nats of each whole text under the distribution that it was drawn from.
    """

    texts: list[str]
    tokens: np.ndarray
    mask: np.ndarray
    log_probs: np.ndarray

    def as_set(self) -> TextSet:
        """The texts without how they were drawn."""
        offsets = np.concatenate([[0], np.cumsum(self.mask.sum(axis=1))])
        return TextSet(self.texts, Ragged(self.tokens[self.mask], offsets))


_SAMPLE_STREAM = 0x7E47


class TextWriter:
    """Writes texts of up to `length` tokens; compiled once for all calls of one batch size and prompt width."""

    def __init__(
        self,
        generator: Generator,
        tokenizer: AnyTokenizer,
        length: int,
        batch_size: int = 100,
        sampler: Callable[..., Sample] | None = None,
    ) -> None:
        """`sampler` takes what `sample` does after the generator, and its place."""
        self._generator = generator
        self._tokenizer = tokenizer
        self._length = length
        self._batch_size = batch_size
        self._sample: Callable = jax.jit(sampler or partial(sample, generator), static_argnames="length")

    def __call__(
        self, params: Params, seed: int, count: int, drawing: Drawing, prompts: Sequence[Sequence[int]] | None = None
    ) -> Written:
        """Writes `count` texts.

        Args:
            params: the generator's.
            seed: equal seeds write equal texts; the first texts of a longer call equal those of a shorter one.
            count: N.
            drawing: how.
            prompts: token ids of each prompt without BOS, used in turn; None for unconditional text.
        """
        prompt, prompt_mask = self._padded(prompts)
        # A stream of its own: a run's parameters come from the bare key of the same seed.
        key = jax.random.fold_in(jax.random.key(seed), _SAMPLE_STREAM)
        tokens, masks, nats = [], [], []
        for start in range(0, count, self._batch_size):
            rows = np.arange(start, start + self._batch_size) % len(prompt)
            written = self._sample(
                params,
                jax.random.fold_in(key, start // self._batch_size),
                prompt[rows],
                prompt_mask[rows],
                length=self._length,
                temperature=drawing.temperature,
                **drawing.options(),
            )
            tokens.append(to_host(written.tokens))
            masks.append(to_host(written.mask))
            nats.append(to_host(written.log_probs).astype(np.float64).sum(axis=1))
        all_tokens, all_masks = np.concatenate(tokens)[:count], np.concatenate(masks)[:count]
        texts = [self._tokenizer.decode(row[mask].tolist()) for row, mask in zip(all_tokens, all_masks, strict=True)]
        return Written(texts, all_tokens, all_masks, np.concatenate(nats)[:count])

    def _padded(self, prompts: Sequence[Sequence[int]] | None) -> tuple[np.ndarray, np.ndarray]:
        """BOS and the prompts, padded on the left: int32 [N, P], bool [N, P]."""
        vocabulary = self._generator.vocabulary
        rows = [[vocabulary.bos_id, *prompt] for prompt in prompts or [[]]]
        width = max(len(row) for row in rows)
        tokens = np.full((len(rows), width), vocabulary.pad_id, np.int32)
        mask = np.zeros((len(rows), width), bool)
        for i, row in enumerate(rows):
            tokens[i, width - len(row) :] = row
            mask[i, width - len(row) :] = True
        return tokens, mask
