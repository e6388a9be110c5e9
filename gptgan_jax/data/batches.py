"""Token ids in batches of fixed shape, as a pure function of a seed and one integer, the position in the data.

Position p is the p-th batch since training began. The stream of documents is one permutation of the split after
another, one for each epoch, so a run that resumes needs to know nothing but its position, and a batch size or a split
of any size will do.
"""

import dataclasses
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gptgan_jax.data.corpora import PromptKeep, Split, counted
from gptgan_jax.data.prompts import cut_note, cut_prompt
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.types import Batch, Vocabulary

ENCODE_AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class Ragged:
    """Sequences of unequal length end to end.

    Attributes:
        tokens: int32 [sum of lengths].
        offsets: int64 [N + 1]; sequence i is tokens[offsets[i] : offsets[i + 1]].
    """

    tokens: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]

    def lengths(self, documents: np.ndarray) -> np.ndarray:
        """The lengths of some of the sequences, 0 for the index -1: int64 [N] -> int64 [N]."""
        return np.where(documents < 0, 0, self.offsets[documents + 1] - self.offsets[documents])

    def subset(self, documents: np.ndarray) -> "Ragged":
        """Some of the sequences, in the order of the indices given."""
        lengths = np.diff(self.offsets)[documents]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.offsets[:-1][documents] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged(self.tokens[places], offsets)


@dataclass(frozen=True, eq=False)
class TokenisedSplit:
    """The documents of a split as token ids, cut to length, and what that took.

    Attributes:
        targets: N sequences of 1 to max_length tokens; EOS ends each that was not cut off.
        prompts: N sequences of at most max_prompt_length tokens, without BOS; None for unconditional text.
        labels: int32 [N], -1 for no label; None where there are no classes.
        vocabulary: of the ids.
        max_length: target length of a batch, T.
        max_prompt_length: longest prompt; a conditional batch has P = max_prompt_length + 1, with BOS.
        truncated_targets: documents that were longer, EOS included; their first max_length tokens stay, without EOS.
        truncated_prompts: prompts that were longer; max_prompt_length of their tokens stay.
        prompt_keep: whether those are the last or the first.
        unknown_tokens: tokens of targets and prompts that stand for an unknown word.
        empty_documents: documents without any token, which were left out.
        answers: the right answers to the prompts, as text, where the targets are others; see `Split`.
        asked: by a chat template, the text of each prompt without what is written around it, cut as its tokens are.
    """

    targets: Ragged
    prompts: Ragged | None
    labels: np.ndarray | None
    vocabulary: Vocabulary
    max_length: int
    max_prompt_length: int
    truncated_targets: int = 0
    truncated_prompts: int = 0
    unknown_tokens: int = 0
    empty_documents: int = 0
    prompt_keep: PromptKeep = "end"
    answers: tuple[str, ...] | None = None
    asked: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def first_prompts(self, count: int) -> list[list[int]] | None:
        """Token ids of the first prompts, at most `count`, always the same; None for unconditional text."""
        if self.prompts is None:
            return None
        return [self.prompts[i].tolist() for i in range(min(count, len(self.prompts)))]

    def prompt_texts(self, tokenizer: AnyTokenizer) -> list[str]:
        """The text of each prompt as its tokens have it, without what a chat template writes around it.

        Raises:
            ValueError: for unconditional text.
        """
        if self.prompts is None:
            raise ValueError("unconditional text has no prompts")
        if self.asked is not None:
            return list(self.asked)
        return [tokenizer.decode(self.prompts[i].tolist()) for i in range(len(self))]

    def subset(self, documents: np.ndarray) -> "TokenisedSplit":
        """The split of some documents alone, in the order of the indices given; the counts stay those of the whole."""
        labels = None if self.labels is None else self.labels[documents]
        prompts = None if self.prompts is None else self.prompts.subset(documents)
        answers = None if self.answers is None else tuple(self.answers[i] for i in documents)
        asked = None if self.asked is None else tuple(self.asked[i] for i in documents)
        return dataclasses.replace(
            self, targets=self.targets.subset(documents), prompts=prompts, labels=labels, answers=answers, asked=asked
        )

    def notes(self) -> tuple[str, ...]:
        """One line for each of the four counts that is not zero."""
        cut = cut_note(self.truncated_prompts, self.max_prompt_length, self.prompt_keep)
        lines = (
            (
                self.truncated_targets,
                f"{counted(self.truncated_targets, 'document')} cut off at {self.max_length} tokens",
            ),
            (self.truncated_prompts, cut),
            (self.unknown_tokens, counted(self.unknown_tokens, "unknown word")),
            (self.empty_documents, f"{counted(self.empty_documents, 'document')} without any token left out"),
        )
        return tuple(line for count, line in lines if count)


def unconditional_split(targets: Ragged, vocabulary: Vocabulary, max_length: int) -> TokenisedSplit:
    """A split of texts without prompts or labels."""
    return TokenisedSplit(targets, None, None, vocabulary, max_length, max_prompt_length=1)


def encode_split(
    split: Split,
    tokenizer: AnyTokenizer,
    max_length: int,
    max_prompt_length: int = 1,
    prompt_keep: PromptKeep = "end",
) -> TokenisedSplit:
    """Encodes the documents of a split, ends each (where the vocabulary has an end of text) and cuts it to length.

    Args:
        split: texts, or tokens that need no encoding.
        tokenizer: its ids.
        max_length: longest target in tokens, its end included, at least 1.
        max_prompt_length: longest prompt in tokens, BOS not included.
        prompt_keep: what is kept of a longer one.

    Raises:
        UserError: as `prompts.cut_prompt` does.
    """
    unk = getattr(tokenizer, "unk_id", None)
    targets, prompts = _RaggedBuilder(), _RaggedBuilder()
    kept: list[int] = []
    asked: list[str] = []
    truncated_targets = truncated_prompts = unknown = 0
    for first, encoded, encoded_prompts in _encoded_chunks(split, tokenizer):
        for i, (ids, prompt) in enumerate(zip(encoded, encoded_prompts, strict=True), first):
            if not ids:
                continue
            kept.append(i)
            unknown += ids.count(unk) + prompt.count(unk) if unk is not None else 0
            truncated_targets += len(ids) > max_length
            targets.add(ids[:max_length])
            if split.prompts is None:
                continue
            read = cut_prompt(tokenizer, split.prompts[i], prompt, max_prompt_length, prompt_keep)
            truncated_prompts += read.cut
            prompts.add(read.ids)
            asked.append(read.text)
    return TokenisedSplit(
        targets=targets.built(),
        prompts=None if split.prompts is None else prompts.built(),
        labels=None if split.labels is None else np.asarray(split.labels, np.int32)[kept],
        vocabulary=tokenizer.vocabulary,
        max_length=max_length,
        max_prompt_length=max_prompt_length,
        truncated_targets=truncated_targets,
        truncated_prompts=truncated_prompts,
        unknown_tokens=unknown,
        empty_documents=len(split) - len(kept),
        prompt_keep=prompt_keep,
        answers=None if split.answers is None else tuple(split.answers[i] for i in kept),
        asked=tuple(asked) if asked and getattr(tokenizer, "chat_template", None) is not None else None,
    )


def batch_at(
    split: TokenisedSplit,
    seed: int,
    position: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Batch:
    """The batch at a position of the endless stream: a function of its arguments and nothing else.

    Element j of the stream is document permutation(j // N)[j % N], where permutation(e) is drawn from (seed, e).
    Batch p holds the elements from p * batch_size on, and process k of n the k-th of its n equal parts.

    Args:
        split: the documents, N of them.
        seed: of the order.
        position: number of the global batch, from 0.
        batch_size: of the global batch; may exceed N.
        process_index: of this process.
        process_count: number of processes, a divisor of batch_size.

    Returns:
        Batch of NumPy arrays with B = batch_size / process_count rows.

    Raises:
        ValueError: an empty split, or processes that do not divide the batch.
    """
    count = len(split)
    own = own_rows(batch_size, process_index, process_count, f" from {count} documents")
    if not count:
        raise ValueError(f"no batch of {batch_size} from 0 documents")
    elements = position * batch_size + np.arange(own.start, own.stop, dtype=np.int64)
    return gather(split, documents_at(seed, elements, count))


def own_rows(batch_size: int, process_index: int, process_count: int, source: str = "") -> slice:
    """Which rows of a global batch are this process's.

    Args:
        batch_size, process_index, process_count: as of `batch_at`.
        source: what the batch is of, for the message.

    Raises:
        ValueError: processes that do not divide the batch, or no such process.
    """
    if batch_size % process_count or not 0 <= process_index < process_count:
        raise ValueError(f"no batch of {batch_size}{source} for process {process_index} of {process_count}")
    rows = batch_size // process_count
    return slice(process_index * rows, (process_index + 1) * rows)


def documents_at(seed: int, elements: np.ndarray, count: int) -> np.ndarray:
    """Which of `count` documents stand at these places of the endless stream: int64 [N] -> int64 [N]."""
    epochs, places = np.divmod(elements, count)
    documents = np.empty(len(elements), np.int64)
    for epoch in np.unique(epochs).tolist():
        of_epoch = epochs == epoch
        documents[of_epoch] = _permutation(seed, epoch, count)[places[of_epoch]]
    return documents


def side_permutation(seed: int, number: int, count: int) -> np.ndarray:
    """The `number`-th permutation of `count` places, int64, of a stream of its own: epochs have the bare seed's."""
    key = np.array([(seed + 2**63) % 2**64, number], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)


def evaluation_batches(split: TokenisedSplit, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
    """Every document once, in order, in batches of one shape; of more than `limit` documents, the first so many.

    The last batch is filled up with rows whose target mask is all false, whose prompt is BOS and whose label is -1.
    """
    count = len(split) if limit is None else min(limit, len(split))
    for start in range(0, count, batch_size):
        documents = np.arange(start, start + batch_size)
        yield gather(split, np.where(documents < count, documents, -1))


def prefetch(
    make_batch: Callable[[int], Batch], start: int, put: Callable[[Batch], Batch], depth: int = 2
) -> Generator[Batch, None, None]:
    """Batches from a position on, without end, made and put on the device by a thread that works ahead.

    The thread starts with the first `next` and ends when the iterator is closed or dropped. At most `depth` finished
    batches wait while it works on one more.

    Args:
        make_batch: position -> Batch, such as a partial `batch_at`.
        start: first position.
        put: moves a batch to the device.
        depth: at least 1.

    Raises:
        What `make_batch` or `put` raised, in the consumer, after all batches before it. ValueError: depth below 1.
    """
    if depth < 1:
        raise ValueError(f"depth should be at least 1, not {depth}")
    ready: queue.Queue[tuple[Batch | None, BaseException | None]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def work() -> None:
        position = start
        while not stop.is_set():
            try:
                ready.put((put(make_batch(position)), None))
            except BaseException as error:
                ready.put((None, error))
                return
            position += 1

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            batch, error = ready.get()
            if error is not None:
                raise error
            assert batch is not None
            yield batch
    finally:
        stop.set()
        # The thread may wait to hand over one more batch: with the queue empty it can, and then it sees the stop.
        while not ready.empty():
            ready.get_nowait()
        thread.join()


def gather(split: TokenisedSplit, documents: np.ndarray) -> Batch:
    """Rows of documents; -1 makes an empty row."""
    vocabulary = split.vocabulary
    target, target_mask = _padded_right(split.targets, documents, split.max_length, vocabulary.pad_id)
    if split.prompts is None:
        prompt = np.full((len(documents), 1), vocabulary.bos_id, np.int32)
        prompt_mask = np.ones_like(prompt, bool)
    else:
        prompt, prompt_mask = _prompts(split.prompts, documents, split.max_prompt_length, vocabulary)
    label = np.full(len(documents), -1, np.int32)
    if split.labels is not None:
        label = np.where(documents < 0, -1, split.labels[documents]).astype(np.int32)
    # Declared as device arrays, which these become when they are put there.
    arrays: tuple[Any, ...] = (prompt, prompt_mask, target, target_mask, label)
    return Batch(*arrays)


def _padded_right(ragged: Ragged, documents: np.ndarray, width: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """int32 and bool [B, width]: tokens, then padding."""
    columns = np.arange(width)
    mask = columns < ragged.lengths(documents)[:, None]
    places = ragged.offsets[documents][:, None] + columns
    return np.where(mask, ragged.tokens.take(places, mode="clip"), np.int32(pad_id)), mask


def _prompts(
    ragged: Ragged, documents: np.ndarray, longest: int, vocabulary: Vocabulary
) -> tuple[np.ndarray, np.ndarray]:
    """int32 and bool [B, longest + 1]: padding, then what `Vocabulary.begun` makes of the tokens."""
    from_end = np.arange(longest + 1) - (longest + 1)  # the last column is -1
    lengths = ragged.lengths(documents)[:, None]
    places = ragged.offsets[documents + 1][:, None] + from_end
    tokens = ragged.tokens.take(places, mode="clip") if len(ragged.tokens) else np.zeros(places.shape, np.int32)
    begun = (lengths == 0) | vocabulary.begins_prompts
    tokens = np.where(begun & (from_end == -1 - lengths), np.int32(vocabulary.bos_id), tokens)
    mask = from_end >= -lengths - begun
    return np.where(mask, tokens, np.int32(vocabulary.pad_id)), mask


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of an epoch. Four are kept: a batch, or a window of them, looks at two neighbours, or at two of two
    streams."""
    key = np.array([seed % 2**64, epoch], np.uint64)
    order = np.random.Generator(np.random.Philox(key=key)).permutation(count)
    order = order.astype(np.int32 if count < 2**31 else np.int64)
    order.flags.writeable = False
    return order


def _encoded_chunks(
    split: Split, tokenizer: AnyTokenizer
) -> Iterator[tuple[int, Sequence[list[int]], Sequence[list[int]]]]:
    """(index of the first document, ids of each with its end, ids of each prompt), a thousand documents at a time."""
    for start in range(0, len(split), ENCODE_AT_ONCE):
        part = slice(start, start + ENCODE_AT_ONCE)
        if split.tokens is not None:
            encoded = split.tokens[part].tolist()
        elif split.prompts is not None:
            asked, encoded = tokenizer.encode_pairs(split.prompts[part], split.texts[part])
            yield start, encoded, asked
            continue
        else:
            encoded = tokenizer.encode_batch(split.texts[part])
        yield start, [tokenizer.ended(ids) if ids else ids for ids in encoded], [[]] * len(encoded)


class _RaggedBuilder:
    """Grows by array chunks: a list of Python integers would take eight times the memory."""

    def __init__(self) -> None:
        self._chunks: list[np.ndarray] = []
        self._pending: list[int] = []
        self._lengths: list[int] = []

    def add(self, ids: list[int]) -> None:
        self._pending += ids
        self._lengths.append(len(ids))
        if len(self._pending) >= 2**16:
            self._flush()

    def built(self) -> Ragged:
        self._flush()
        offsets = np.zeros(len(self._lengths) + 1, np.int64)
        np.cumsum(self._lengths, out=offsets[1:])
        return Ragged(np.concatenate(self._chunks), offsets)

    def _flush(self) -> None:
        self._chunks.append(np.array(self._pending, np.int32))
        self._pending = []
