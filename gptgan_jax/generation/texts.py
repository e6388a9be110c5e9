"""Texts for evaluation, and samples of a generator: token ids from the sampler, strings from the tokenizer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from gptgan_jax.data.encoding import Ragged, TokenisedSplit
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.distributed.hosts import to_host
from gptgan_jax.distributed.rows import ALL_ROWS, PartOfRows
from gptgan_jax.generation.batch_sizes import rows_at_once
from gptgan_jax.generation.pace import Pause, unpaused
from gptgan_jax.models.generators import Generator
from gptgan_jax.sampling.decoding import sample
from gptgan_jax.types import Array, Params, Sample


@dataclass(frozen=True)
class Drawing:
    """Sampling settings: see `sampling.shape_logits`; top_k = 0 and top_p = 1 are off."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def options(self) -> dict[str, Any]:
        """top_k and top_p if they are on, as keywords of `sampling`."""
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
        targets: as token ids; EOS ends each text that was not truncated.
    """

    texts: list[str]
    targets: Ragged

    def __len__(self) -> int:
        return len(self.texts)

    def part(self, rows: np.ndarray | slice) -> "TextSet":
        """The texts of these rows."""
        chosen = np.arange(len(self))[rows]
        return TextSet([self.texts[i] for i in chosen], self.targets.subset(chosen))


def text_set(split: TokenisedSplit, tokenizer: AnyTokenizer) -> TextSet:
    """The texts of a split in the same form as samples: truncated, with unknown words as the unknown token."""
    return TextSet([tokenizer.decode(split.targets[i].tolist()) for i in range(len(split))], split.targets)


@dataclass(frozen=True, eq=False)
class Written:
    """Texts from a generator.

    Attributes:
        texts: N strings.
        tokens: int32 [N, T].
        mask: bool [N, T]; covers EOS, not what comes after it.
        log_probs: float64 [N], of each whole text under the distribution that it was sampled from, in nats.
    """

    texts: list[str]
    tokens: np.ndarray
    mask: np.ndarray
    log_probs: np.ndarray

    def part(self, rows: slice) -> "Written":
        """The texts of these rows."""
        return Written(self.texts[rows], self.tokens[rows], self.mask[rows], self.log_probs[rows])

    def as_set(self) -> TextSet:
        """The texts without their log-probabilities."""
        offsets = np.concatenate([[0], np.cumsum(self.mask.sum(axis=1))])
        return TextSet(self.texts, Ragged(self.tokens[self.mask], offsets))


_SAMPLE_STREAM = 0x7E47


class TextWriter:
    """Generates texts of up to `length` tokens; compiled once for all calls with the same count and prompt width.

    Texts come in batches, each with its own random numbers. If fewer texts are requested, or their logits would need
    too much memory, only a part of a batch is computed at once; each text is then the same as in the full batch, up to
    rounding.
    """

    def __init__(
        self,
        generator: Generator,
        tokenizer: AnyTokenizer,
        length: int,
        batch_size: int = 100,
        sampler: Callable[..., Sample] | None = None,
        candidates: int = 1,
    ) -> None:
        """`sampler` replaces `sample`, takes its arguments after the generator, and generates `candidates` per text."""
        self._generator = generator
        self._tokenizer = tokenizer
        self._length = length
        self._batch_size = batch_size
        self._logits = candidates * generator.vocabulary.size
        draw: Callable[..., Sample] = sampler or partial(sample, generator)

        def write(
            params: Any, key: Array, prompt: Array, mask: Array, first: Array, total: int, **options: Any
        ) -> Sample:
            count = prompt.shape[0]
            rows = ALL_ROWS if count == total else PartOfRows(first=first, count=count, total=total)
            return draw(params, key, prompt, mask, rows=rows, **options)

        self._sample: Callable = jax.jit(write, static_argnames=("length", "total"))

    def __call__(
        self,
        params: Params,
        seed: int,
        count: int,
        drawing: Drawing,
        prompts: Sequence[Sequence[int]] | None = None,
        pause: Pause = unpaused,
    ) -> Written:
        """Generates `count` texts.

        Args:
            params: the generator's.
            seed: equal seeds give equal texts; the first texts of a longer call equal those of a shorter one.
            count: N.
            drawing: the sampling settings.
            prompts: token ids of each prompt without BOS, used in turn; None for unconditional text.
            pause: called before each part.
        """
        parts = list(self.batches(params, seed, count, drawing, prompts, pause))
        return Written(
            [text for part in parts for text in part.texts],
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.mask for part in parts]),
            np.concatenate([part.log_probs for part in parts]),
        )

    def batches(
        self,
        params: Params,
        seed: int,
        count: int,
        drawing: Drawing,
        prompts: Sequence[Sequence[int]] | None = None,
        pause: Pause = unpaused,
    ) -> Iterator[Written]:
        """The same texts, one part at a time, as they are generated."""
        rows = prompts or [[]]
        width = 1 + max(map(len, rows))
        # A separate stream: a run's parameters come from the plain key of the same seed.
        key = jax.random.fold_in(jax.random.key(seed), _SAMPLE_STREAM)
        total = self._batch_size
        size = rows_at_once(total, count, self._logits)
        for start in range(0, count, total):
            for first in range(0, min(total, count - start), size):
                place = start + first
                pause("sampling", place, count)
                written = self._sample(
                    params,
                    jax.random.fold_in(key, start // total),
                    *self._padded([rows[i % len(rows)] for i in range(place, place + size)], width),
                    np.int32(first),
                    total=total,
                    length=self._length,
                    temperature=drawing.temperature,
                    **drawing.options(),
                )
                own = min(size, total - first, count - place)
                tokens, mask = to_host(written.tokens)[:own], to_host(written.mask)[:own]
                nats = to_host(written.log_probs)[:own].astype(np.float64).sum(axis=1)
                texts = [self._tokenizer.decode(row[own].tolist()) for row, own in zip(tokens, mask, strict=True)]
                yield Written(texts, tokens, mask, nats)

    def _padded(self, prompts: Sequence[Sequence[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
        """BOS and the prompts, padded on the left to a width: int32 [N, P], bool [N, P]."""
        vocabulary = self._generator.vocabulary
        tokens = np.full((len(prompts), width), vocabulary.pad_id, np.int32)
        mask = np.zeros((len(prompts), width), bool)
        for i, prompt in enumerate(prompts):
            row = vocabulary.begun(prompt)
            tokens[i, width - len(row) :] = row
            mask[i, width - len(row) :] = True
        return tokens, mask
