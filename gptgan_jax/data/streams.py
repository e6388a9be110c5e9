"""A corpus that is too large for memory: read document by document, with only a part of it in memory.

One pass finds the held-out text, and the part of the training text for the tokenizer, the discriminator and the search
for copies. Which documents these are depends only on their text and the seed: a hash maps each document to a number
between 0 and 1. The lowest numbers are test text, the next ones validation text, and the next ones that part.
"""

import hashlib
import heapq
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from gptgan_jax.data.config import HfData, TextData
from gptgan_jax.data.holding_out import place_of_text
from gptgan_jax.errors import UserError
from gptgan_jax.readers.documents import read_texts, stream_documents
from gptgan_jax.readers.files import FILE_FORMATS, matching_files, named
from gptgan_jax.readers.row_sources import open_rows
from gptgan_jax.system.atomic_files import write_whole
from gptgan_jax.tokenization.tokenizer import Tokenizer

SAMPLE_FILE, VERSION = "sample.json", 2
# The most characters of training text, and of each held-out split, that are held in memory.
MOST_TRAINING, MOST_HELD_OUT = 10_000_000, 1_000_000
# For a stream limited by `data.max_tokens`: the assumed characters per token, and the most characters to read ahead.
CHARACTERS_A_TOKEN, MOST_READ_AHEAD = 4, 1_000_000_000
ENCODED_AT_ONCE = 1000


@dataclass(frozen=True)
class Limits:
    """Which documents are held out: those with a number below `test`, or from `valid_from` and below `valid`."""

    test: float
    valid_from: float
    valid: float

    def held_out(self, place: float) -> bool:
        return place < self.test or self.valid_from <= place < self.valid


@dataclass(frozen=True)
class Streamed:
    """A corpus on disk.

    Attributes:
        config: its source.
        fingerprint: of the text and the keys that choose among its documents.
        limits: what is held out.
        count: the number of documents; for a stream limited by `data.max_tokens`, the number of those read ahead.
        whole: whether those are all.
        train, valid, test: the documents in memory.
    """

    config: TextData | HfData
    fingerprint: str
    limits: Limits
    count: int
    train: list[str]
    valid: list[str]
    test: list[str]
    whole: bool = True

    @property
    def expected(self) -> int | None:
        """The approximate number of training documents; None if it is not known."""
        return self.count - len(self.valid) - len(self.test) if self.whole else None

    def training(self) -> Iterator[str]:
        """All training documents, in the order of the files."""
        texts, seed = documents_of(self.config), self.config.seed
        return (text for text in texts if not self.limits.held_out(place_of_text(text, seed)))

    def stored(self, tokenizer: Tokenizer) -> Iterator[str]:
        """The training documents that a token store holds: those with a token that begin within `data.max_tokens`."""
        texts, most, begin = self.training(), self.config.max_tokens, 0
        while some := list(islice(texts, ENCODED_AT_ONCE)):
            for text, ids in zip(some, tokenizer.encode_batch(some), strict=True):
                if most is not None and begin >= most:
                    return
                if ids:
                    yield text
                    begin += len(tokenizer.ended(ids))


def documents_of(config: TextData | HfData) -> Iterator[str]:
    """All documents of data.train, one after another.

    Raises:
        UserError: as the readers do.
    """
    if isinstance(config, TextData):
        if config.train is None:
            raise UserError("data.train: no training text named; give a UTF-8 file, a folder or a glob")
        return stream_documents("data.train", config.train, config.document)
    where = f"data.train: {named(config.train or 'train')}"
    rows = open_rows(where, config.path, config.name, config.train, "train", config.streaming)
    return read_texts(rows, config.text_column, config.max_documents)


def files_of(config: TextData | HfData) -> list[str]:
    """The files that hold data.train on this machine; empty for a hub set."""
    if isinstance(config, HfData) and config.path not in FILE_FORMATS:
        inside = (file for file in Path(config.path).rglob("*") if file.is_file())
        return sorted(str(file) for file in inside if not file.name.startswith((".", "cache-")))
    if config.train is None or "://" in str(config.train):
        return []
    return matching_files("data.train", config.train)


def _contents_of(files: Sequence[str]) -> str:
    """A digest of the files' bytes, wherever they lie and whenever they were copied there."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        try:
            with open(file, "rb") as opened:
                digest.update(hashlib.file_digest(opened, "blake2b").digest())
        except OSError as error:
            raise UserError(f"data.train: {file} cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def _fingerprint(config: TextData | HfData, contents: str | None) -> str:
    """A digest of the source: the bytes of its files, if it has any, and the keys that choose among its documents."""
    names = ["kind", "document", "name", "text_column", "max_documents", "seed", "valid_fraction", "test_fraction"]
    if contents is None or (isinstance(config, HfData) and config.path not in FILE_FORMATS):
        names.append("train")  # the name of a set's split; that of a file says nothing about its content
    if contents is None or getattr(config, "path", None) in FILE_FORMATS:
        names.append("path")
    keys: list[tuple[str, Any]] = [(name, getattr(config, name, None)) for name in names]
    if _read_ahead(config) is not None:
        keys.append(("max_tokens", config.max_tokens))
    facts = repr((keys, contents, config.valid is None, config.test is None, VERSION))
    return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()


def read_stream(config: TextData | HfData, folder: Path, keep: bool = True) -> Streamed:
    """Reads a corpus once, or loads the result of an earlier pass from the folder of its store.

    Args:
        config: names the corpus.
        folder: of the store.
        keep: whether this pass may save its result there.

    Raises:
        UserError: as the readers do, and if nothing is left for a split.
    """
    before = _kept(folder)
    files = files_of(config)
    facts = [[os.path.abspath(file), (found := os.stat(file)).st_size, found.st_mtime_ns] for file in files]
    # Their bytes are read again only if a file looks different.
    contents = before["contents"] if before.get("files") == facts else _contents_of(files) if files else None
    fingerprint = _fingerprint(config, contents)
    kept = before if before.get("fingerprint") == fingerprint else {}
    if not kept:
        if keep:
            check_writable(folder)
        kept = _one_pass(config)
    if keep and (kept is not before or kept["files"] != facts):
        kept |= {"fingerprint": fingerprint, "contents": contents, "files": facts}
        write_whole(folder / SAMPLE_FILE, json.dumps(kept).encode())
    parts = kept["train"], kept["valid"], kept["test"]
    return Streamed(config, fingerprint, Limits(*kept["limits"]), kept["count"], *parts, kept.get("whole", True))


def check_writable(folder: Path) -> None:
    """Creates the folder of a store. Raises UserError if that, or writing into it, is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data.store {folder}: can't be made ({error.strerror}); name another folder") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"data.store {folder}: can't be written; name another folder")


def _read_ahead(config: TextData | HfData) -> int | None:
    """How many characters of a stream to read before it is tokenised; None: all of it.

    About as many as the store will need, so that text that is never trained on is not read.
    """
    if config.max_tokens is None or not getattr(config, "streaming", False):
        return None
    return min(CHARACTERS_A_TOKEN * config.max_tokens, MOST_READ_AHEAD)


def _one_pass(config: TextData | HfData) -> dict[str, Any]:
    valid = 0.0 if config.valid is not None else config.valid_fraction
    test = 0.0 if config.valid is not None or config.test is not None else config.test_fraction
    tests, valids, train = _First(MOST_HELD_OUT), _First(MOST_HELD_OUT), _First(MOST_TRAINING)
    count = size = 0
    most, whole = _read_ahead(config), True
    for text in documents_of(config):
        if most is not None and size >= most:
            whole = False
            break
        size += len(text)
        place = place_of_text(text, config.seed)
        (tests if place < test else valids if place < test + valid else train).add(place, text)
        count += 1
    for name, wanted, found in (("test", test, tests), ("valid", valid, valids), ("train", 1.0, train)):
        if wanted and not found.texts():
            raise UserError(
                f"data.{name}: holding out by content left it none of the {'' if whole else 'first '}{count} documents "
                f"of data.train; "
                f"{'lower the fractions' if name == 'train' else f'raise data.{name}_fraction or name data.{name}'}"
            )
    # Held-out documents that don't fit into memory become training text.
    limits = (tests.below(test), test, valids.below(test + valid))
    return {
        "version": VERSION,
        "count": count,
        "whole": whole,
        "limits": limits,
        "train": train.texts(),
        "valid": valids.texts(),
        "test": tests.texts(),
    }


def _kept(folder: Path) -> dict[str, Any]:
    """The result of an earlier pass; empty if there is none that can be read."""
    try:
        kept = json.loads((folder / SAMPLE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) and kept.get("version") == VERSION else {}


class _First:
    """The texts with the lowest numbers, up to a total number of characters; at least one text."""

    def __init__(self, most: int) -> None:
        self._most, self._size = most, 0
        self._heap: list[tuple[float, str]] = []
        self._lost: float | None = None  # the lowest number of a text that did not fit

    def add(self, place: float, text: str) -> None:
        if self._lost is not None and place >= self._lost:
            return
        heapq.heappush(self._heap, (-place, text))
        self._size += len(text)
        while self._size > self._most and len(self._heap) > 1:
            dropped, lost = heapq.heappop(self._heap)
            self._size -= len(lost)
            self._lost = -dropped
        # Equal texts have one number, and are in memory together or not at all.
        while self._lost is not None and len(self._heap) > 1 and -self._heap[0][0] >= self._lost:
            self._size -= len(heapq.heappop(self._heap)[1])

    def below(self, bound: float) -> float:
        """The number below which no text is missing."""
        if self._lost is None:
            return bound
        # The one text that is always held may be the one that did not fit.
        return max(self._lost, math.nextafter(-self._heap[0][0], math.inf))

    def texts(self) -> list[str]:
        """The different texts, ordered by their numbers."""
        return list(dict.fromkeys(text for _, text in sorted(self._heap, reverse=True)))
