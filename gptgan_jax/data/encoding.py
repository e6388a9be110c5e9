"""Splits of a corpus as token ids: ragged arrays, one text per row."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gptgan_jax.data.config import LongDocuments, PromptKeep
from gptgan_jax.data.corpora import Split, counted
from gptgan_jax.data.prompts import cut_note, cut_prompt
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.errors import suggests_names
from gptgan_jax.readers.top_k import StoredTopK, Tokens, read_top_k
from gptgan_jax.types import Vocabulary

ENCODE_AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class Ragged:
    """Sequences of unequal length, concatenated.

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

    def stored(self) -> Tokens:
        """The sequences as files have them."""
        return Tokens(self.tokens, np.diff(self.offsets))

    def subset(self, documents: np.ndarray) -> "Ragged":
        """Some of the sequences, in the given order."""
        lengths = np.diff(self.offsets)[documents]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.offsets[:-1][documents] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged(self.tokens[places], offsets)


@dataclass(frozen=True, eq=False)
class Sources:
    """The sources of the documents of a mixture.

    Attributes:
        of: int32 [N], the source of each document.
        names: of the S sources.
        weights: their shares of the sampled tokens; they sum to 1.
        shares: their shares of the sampled texts, one per row; they sum to 1.
    """

    of: np.ndarray
    names: tuple[str, ...]
    weights: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class TokenisedSplit:
    """The documents of a split as token ids, truncated, with counts of what was lost.

    Attributes:
        targets: N sequences of 1 to max_length tokens; EOS ends each that was not truncated.
        prompts: N sequences of at most max_prompt_length tokens, without BOS; None for unconditional text.
        labels: int32 [N], -1 for no label; None if there are no classes.
        vocabulary: of the ids.
        max_length: target length of a batch, T.
        max_prompt_length: longest prompt; a conditional batch has P = max_prompt_length + 1, with BOS.
        truncated_targets: the number of longer documents, including EOS; their first max_length tokens are kept,
            without EOS.
        truncated_prompts: the number of longer prompts; max_prompt_length of their tokens are kept.
        prompt_keep: whether those are the last or the first.
        unknown_tokens: the number of unknown tokens in targets and prompts.
        empty_documents: the number of documents without any token, which were left out.
        answers: the right answers to the prompts, as text, if they differ from the targets; see `Split`.
        asked: with a chat template, the text of each prompt without the markup, truncated like its tokens.
        before: int32 [N], for a window that continues a longer document the token before it, which replaces BOS as
            input; -1 for a target that begins a document. None if there is no such window.
        cut_share: the share of all target tokens that was cut off.
        split_documents: the number of documents that were split into several windows.
        sources: for a mixture, the source of each document; else None.
        columns: values of other columns by name, one per document.
        numbered: whether batches contain the document number of each row.
        numbers: int32 [N], those numbers, in a part of a numbered split; None: from 0 on.
        top_k: a teacher's most likely tokens at each target token, which batches contain then.
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
    before: np.ndarray | None = None
    cut_share: float = 0.0
    split_documents: int = 0
    sources: Sources | None = None
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    numbered: bool = False
    numbers: np.ndarray | None = None
    top_k: StoredTopK | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def first_prompts(self, count: int) -> list[list[int]] | None:
        """Token ids of the first prompts, at most `count`; None for unconditional text."""
        if self.prompts is None:
            return None
        return [self.prompts[i].tolist() for i in range(min(count, len(self.prompts)))]

    def prompt_texts(self, tokenizer: AnyTokenizer) -> list[str]:
        """The text of each prompt, truncated like its tokens, without the markup of a chat template.

        Raises:
            ValueError: for unconditional text.
        """
        if self.prompts is None:
            raise ValueError("unconditional text has no prompts")
        return [self.prompt_text(i, tokenizer) for i in range(len(self))]

    def prompt_text(self, document: int, tokenizer: AnyTokenizer) -> str:
        """The text of a document's prompt, as in `prompt_texts`; "" for unconditional text."""
        if self.asked is not None:
            return self.asked[document]
        return "" if self.prompts is None else tokenizer.decode_prompt(self.prompts[document].tolist())

    def subset(self, documents: np.ndarray) -> "TokenisedSplit":
        """The split with only some documents, in the given order; the counts stay those of the whole split.

        Numbered documents keep their numbers. A teacher's tokens are left out.
        """
        labels = None if self.labels is None else self.labels[documents]
        prompts = None if self.prompts is None else self.prompts.subset(documents)
        answers = None if self.answers is None else tuple(self.answers[i] for i in documents)
        asked = None if self.asked is None else tuple(self.asked[i] for i in documents)
        sources = None
        if self.sources is not None:
            sources = dataclasses.replace(self.sources, of=self.sources.of[documents])
        return dataclasses.replace(
            self,
            sources=sources,
            targets=self.targets.subset(documents),
            prompts=prompts,
            labels=labels,
            answers=answers,
            asked=asked,
            before=None if self.before is None else self.before[documents],
            columns={name: [values[i] for i in documents] for name, values in self.columns.items()},
            numbers=self.numbers_of(documents) if self.numbered else None,
            top_k=None,
        )

    def numbers_of(self, documents: np.ndarray) -> np.ndarray:
        """The numbers of documents in batches, -1 for the index -1: int64 [N] -> int32 [N]."""
        numbers = documents if self.numbers is None else np.where(documents < 0, -1, self.numbers[documents])
        return numbers.astype(np.int32)

    def with_top_k(self, path: str) -> "TokenisedSplit":
        """The split with a teacher's tokens from a file.

        Raises:
            UserError: as `read_top_k` does.
        """
        prompts = None if self.prompts is None else self.prompts.stored()
        top_k = read_top_k(Path(path), self.targets.stored(), prompts, self.vocabulary.size)
        return dataclasses.replace(self, top_k=top_k)

    def notes(self) -> tuple[str, ...]:
        """One line for each of the counts that is not zero."""
        cut = cut_note(self.truncated_prompts, self.max_prompt_length, self.prompt_keep)
        lines = (
            (
                self.truncated_targets,
                f"{counted(self.truncated_targets, 'document')} cut off at {self.max_length} tokens, "
                f"{self.cut_share:.1%} of all tokens lost",
            ),
            (
                self.split_documents,
                f"{counted(self.split_documents, 'document')} longer than {self.max_length} tokens split into windows",
            ),
            (self.truncated_prompts, cut),
            (self.unknown_tokens, counted(self.unknown_tokens, "unknown word")),
            (self.empty_documents, f"{counted(self.empty_documents, 'document')} without any token left out"),
        )
        return tuple(line for count, line in lines if count)


@suggests_names
def unconditional_split(targets: Ragged, vocabulary: Vocabulary, max_length: int) -> TokenisedSplit:
    """A split of texts without prompts or labels."""
    return TokenisedSplit(targets, None, None, vocabulary, max_length, max_prompt_length=1)


@suggests_names
def encode_split(
    split: Split,
    tokenizer: AnyTokenizer,
    max_length: int,
    max_prompt_length: int = 1,
    prompt_keep: PromptKeep = "end",
    long_documents: LongDocuments = "cut",
) -> TokenisedSplit:
    """Encodes the documents of a split, adds the end of text (if the vocabulary has one) and truncates them.

    Args:
        split: texts, or tokens that need no encoding.
        tokenizer: its ids.
        max_length: longest target in tokens, including its end, at least 1.
        max_prompt_length: longest prompt in tokens, without BOS.
        prompt_keep: which part of a longer prompt to keep.
        long_documents: whether the rest of a longer target is dropped, or becomes further targets: windows that don't
            overlap. Targets with a prompt or a label are truncated.

    Raises:
        UserError: as `prompts.cut_prompt` does.
    """
    unk = getattr(tokenizer, "unk_id", None)
    targets, prompts = _RaggedBuilder(), _RaggedBuilder()
    kept: list[int] = []
    owners: list[int] = []  # the document of each target, which may be a window of it
    asked: list[str] = []
    before: list[int] = []
    splits = long_documents == "split" and split.prompts is None and split.labels is None and split.tokens is None
    truncated_targets = truncated_prompts = unknown = cut_tokens = split_documents = 0
    for first, encoded, encoded_prompts in _encoded_chunks(split, tokenizer):
        for i, (ids, prompt) in enumerate(zip(encoded, encoded_prompts, strict=True), first):
            if not ids:
                continue
            kept.append(i)
            unknown += ids.count(unk) + prompt.count(unk) if unk is not None else 0
            if splits:
                split_documents += len(ids) > max_length
                for start in range(0, len(ids), max_length):
                    owners.append(i)
                    targets.add(ids[start : start + max_length])
                    before.append(ids[start - 1] if start else -1)
                continue
            owners.append(i)
            truncated_targets += len(ids) > max_length
            cut_tokens += max(len(ids) - max_length, 0)
            targets.add(ids[:max_length])
            if split.prompts is None:
                continue
            read = cut_prompt(tokenizer, split.prompts[i], prompt, max_prompt_length, prompt_keep)
            truncated_prompts += read.cut
            prompts.add(read.ids)
            asked.append(read.text)
    ragged = targets.built()
    return TokenisedSplit(
        targets=ragged,
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
        before=np.array(before, np.int32) if split_documents else None,
        cut_share=cut_tokens / max(cut_tokens + len(ragged.tokens), 1),
        split_documents=split_documents,
        columns={name: [values[i] for i in owners] for name, values in split.columns.items()},
    )


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
    """Grows by array chunks, because a list of Python integers would take eight times the memory."""

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
