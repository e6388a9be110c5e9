"""A token store: a corpus of any size, tokenised once, on disk.

The store of a corpus is a folder of Arrow streams, `tokens-FINGERPRINT-00000.arrow` and so on, and `store.json`. Each
stream has one column `tokens` (one list of ids per document, ending with the end-of-text token), which
`datasets.Dataset.from_file` can read as well. `store.json` is written last and has the position of each record batch's
tokens. Rows are read from the files on demand, so the memory does not grow with the store.
"""

import bisect
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from gptgan_jax.errors import UserError
from gptgan_jax.system.atomic_files import write_whole
from gptgan_jax.tokenization.tokenizer import Tokenizer

INDEX_FILE, LOCK_FILE, VERSION = "store.json", "lock", 1
# Characters tokenised at once, tokens per record batch, and tokens per file.
CHUNK, BATCH_TOKENS, SHARD_TOKENS = 2_000_000, 2**20, 2**27
NEWS_SECONDS = 10.0
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class TokenStore:
    """Documents as one long sequence of token ids, each ended by EOS.

    Attributes:
        folder: its place.
        fingerprint: of the text, the tokenizer and the settings that it was built from.
        eos_id: the token that ends a document, and occurs nowhere else.
        documents: their number.
        dtype: of the ids on disk.
        parts: (file, byte offset of its first token, tokens) of each record batch, in order.
    """

    folder: Path
    fingerprint: str
    eos_id: int
    documents: int
    dtype: np.dtype
    parts: tuple[tuple[str, int, int], ...]
    _ends: list[int] = field(init=False, repr=False)
    _files: dict[str, int] = field(init=False, repr=False)
    _opening: threading.Lock = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", np.cumsum([part[2] for part in self.parts]).tolist())
        object.__setattr__(self, "_files", {})
        object.__setattr__(self, "_opening", threading.Lock())

    def __len__(self) -> int:
        """The number of tokens."""
        return self._ends[-1] if self._ends else 0

    def tokens(self, start: int, end: int) -> np.ndarray:
        """The tokens from one position to another, int32; fewer if the store ends before.

        Raises:
            UserError: a file that is missing or too short.
        """
        found: list[np.ndarray] = []
        place = bisect.bisect_right(self._ends, start)
        while start < end and place < len(self.parts):
            file, offset, count = self.parts[place]
            first = start - (self._ends[place] - count)
            size = min(end - start, count - first)
            width = self.dtype.itemsize
            raw = os.pread(self._opened(file), size * width, offset + first * width)
            if len(raw) < size * width:
                raise UserError(f"{self.folder / file} is shorter than {INDEX_FILE} says; remove {self.folder}")
            found.append(np.frombuffer(raw, self.dtype).astype(np.int32))
            start, place = start + size, place + 1
        return np.concatenate(found) if found else np.zeros(0, np.int32)

    def _opened(self, file: str) -> int:
        with self._opening:
            if file not in self._files:
                try:
                    self._files[file] = os.open(self.folder / file, os.O_RDONLY)
                except FileNotFoundError:
                    raise UserError(
                        f"{self.folder / file}: no such file; another run with other text, tokenizer or settings may "
                        "have taken the folder over: give each a data.store of its own"
                    ) from None
                except OSError as error:
                    raise UserError(f"{self.folder / file}: {error.strerror}; remove {self.folder}") from None
            return self._files[file]


def open_store(folder: Path, fingerprint: str) -> TokenStore | str:
    """The finished store in a folder, or why it can't be used: a line for the user, empty if there is no store.

    Args:
        folder: of the store.
        fingerprint: of the expected content.
    """
    index = _read_index(folder)
    if isinstance(index, str):
        return index
    if not index["finished"]:
        return ""
    if index["fingerprint"] != fingerprint:
        return "the text, the tokenizer or the settings have changed since it was written"
    parts = tuple((str(file), int(offset), int(count)) for file, offset, count in index["parts"])
    return TokenStore(folder, fingerprint, index["eos_id"], index["documents"], np.dtype(index["dtype"]), parts)


def _read_index(folder: Path) -> dict[str, Any] | str:
    """The index that `_Writer` saved, of a finished store or not; or why there is none, as from `open_store`."""
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        return f"its {INDEX_FILE} can't be read ({' '.join(str(error).split())[:80]})"
    if not isinstance(index, dict) or index.get("version") != VERSION:
        return "it is of another version of gptgan_jax"
    return index


def build_store(
    folder: Path,
    documents: Callable[[], Iterable[str]],
    tokenizer: Tokenizer,
    fingerprint: str,
    say: Say,
    max_tokens: int | None = None,
    bar: TextIO | None = None,
    expected: int | None = None,
) -> TokenStore:
    """Opens the store in a folder, or builds it; an interrupted build resumes after its last complete file.

    Args:
        folder: of the store; created if necessary.
        documents: returns the texts, always the same in the same order.
        tokenizer: its ids.
        fingerprint: of everything that the tokens depend on, see `store_fingerprint`.
        say: called with one line of progress at a time.
        max_tokens: no document begins after this many tokens.
        bar: a terminal for a progress bar, instead of progress lines by `say`.
        expected: the approximate number of documents, if known.

    Raises:
        UserError: no document with a token, a folder that can't be written, or a full disk.
    """
    if tokenizer.vocabulary.eos_id is None:
        raise UserError("data.store needs a tokenizer with an end-of-text token")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, say):
            found = open_store(folder, fingerprint)
            if isinstance(found, TokenStore):
                return found
            if found:
                say(f"{folder}: {found}; it is written anew")
            writer = _Writer(folder, tokenizer, fingerprint, say, max_tokens)
            with writer.shown(bar, expected):
                writer.write(_read(documents()))
            say(f"{folder}: {writer.documents:,} documents, {writer.tokens:,} tokens")
            # Before the lock is released: a process that waits for it may write another store there.
            store = open_store(folder, fingerprint)
    except OSError as error:
        raise UserError(
            f"data.store {folder}: can't be written ({error.strerror or error}); its whole files are kept, and the "
            "same command goes on with them"
        ) from None
    assert isinstance(store, TokenStore)
    return store


def _read(documents: Iterable[str]) -> Iterator[str]:
    """The documents; their own errors are not reported as errors of the store."""
    try:
        yield from documents
    except OSError as error:
        raise UserError(f"data.train: cannot be read ({error.strerror or error})") from None


def store_fingerprint(text: str, tokenizer: Tokenizer, max_tokens: int | None) -> str:
    """A digest of everything that a store's tokens depend on: a digest of the text, the tokenizer, and the limit."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (text, tokenizer.backend.to_str(), repr((tokenizer.vocabulary, max_tokens, VERSION))):
        digest.update(part.encode())
    return digest.hexdigest()


class _Bar(tqdm):
    monitor_interval = 0  # no monitoring thread


class _Writer:
    """The index of a store while it is built; it is saved to store.json after each file."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, fingerprint: str, say: Say, max_tokens: int | None) -> None:
        self.folder, self.tokenizer, self.fingerprint, self.say = folder, tokenizer, fingerprint, say
        self.max_tokens = max_tokens
        self.dtype = np.dtype(np.uint16 if tokenizer.vocabulary.size <= 2**16 else np.uint32)
        self.parts: list[tuple[str, int, int]] = []
        self.read = self.documents = self.tokens = self.shards = 0
        self.begun = self.said = time.monotonic()
        self.bar: _Bar | None = None
        self._take_over()

    def _take_over(self) -> None:
        """Keeps the complete files of a store with the same fingerprint; removes all others."""
        index = _read_index(self.folder)
        if isinstance(index, dict) and index["fingerprint"] == self.fingerprint and not index["finished"]:
            self.parts = [tuple(part) for part in index["parts"]]
            self.read, self.documents, self.tokens = index["read"], index["documents"], index["tokens"]
            self.shards = index["shards"]
        whole = {name for name, _, _ in self.parts}
        for file in self.folder.glob("tokens-*.arrow*"):
            if file.name not in whole:
                file.unlink()
        if self.read:
            self.say(f"{self.folder}: goes on behind {self.documents:,} documents")

    def write(self, documents: Iterable[str]) -> None:
        texts = iter(documents)
        for _ in range(self.read):
            next(texts, None)
        encoded = self._encoded(texts)
        while (first := next(encoded, None)) is not None and not self._full:
            self._write_shard(first, encoded)
        if not self.tokens:
            raise UserError("data.train: the tokenizer finds no token in any of its texts")
        self._save(finished=True)

    @property
    def _full(self) -> bool:
        return self.max_tokens is not None and self.tokens >= self.max_tokens

    def _encoded(self, texts: Iterator[str]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(number of texts read, tokens of the non-empty ones, number of tokens of each), one chunk at a time.

        The next chunk is tokenised, by threads of the tokenizer's library, while this one is written.
        """
        with ThreadPoolExecutor(1) as pool:
            waiting = None
            for chunk in _chunks(texts):
                coming = pool.submit(self._encode, chunk)
                if waiting is not None:
                    yield waiting.result()
                waiting = coming
            if waiting is not None:
                yield waiting.result()

    def _encode(self, texts: list[str]) -> tuple[int, np.ndarray, np.ndarray]:
        encoded = self.tokenizer.encode_batch(texts)
        parts = [np.array(self.tokenizer.ended(ids), self.dtype) for ids in encoded if ids]
        lengths = np.array([len(part) for part in parts], np.int64)
        return len(texts), np.concatenate(parts) if parts else np.zeros(0, self.dtype), lengths

    def _write_shard(self, first: tuple[int, np.ndarray, np.ndarray], more: Iterator[Any]) -> None:
        # A run that still reads an earlier store of this folder must not find other tokens by the same name.
        name = f"tokens-{self.fingerprint[:16]}-{self.shards:05d}.arrow"
        path, counts = self.folder / f"{name}.tmp", []
        schema = pa.schema([("tokens", pa.list_(pa.from_numpy_dtype(self.dtype)))])
        written = 0
        chunk: tuple[int, np.ndarray, np.ndarray] | None = first
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
            while chunk is not None:
                read, tokens, lengths = self._within(*chunk)
                for values, offsets in _batches(tokens, lengths):
                    array = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
                    stream.write_batch(pa.record_batch([array], schema=schema))
                    counts.append(len(values))
                self.read += read
                self.documents += len(lengths)
                self.tokens += len(tokens)
                written += len(tokens)
                self._tell()
                chunk = None if written >= SHARD_TOKENS or self._full else next(more, None)
        self.parts += [(name, offset, count) for offset, count in zip(_offsets(path), counts, strict=True)]
        os.replace(path, self.folder / name)
        self.shards += 1
        self._save(finished=False)

    def _within(self, read: int, tokens: np.ndarray, lengths: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        """The documents of a chunk that begin before `max_tokens`."""
        if self.max_tokens is None or self.tokens + len(tokens) <= self.max_tokens:
            return read, tokens, lengths
        begins = self.tokens + np.cumsum(lengths) - lengths
        lengths = lengths[begins < self.max_tokens]
        return read, tokens[: int(lengths.sum())], lengths

    @contextmanager
    def shown(self, stream: TextIO | None, expected: int | None) -> Iterator[None]:
        """Shows a progress bar on a terminal: of the tokens up to `max_tokens`, or else of the documents."""
        if stream is None or not stream.isatty():
            yield
            return
        unit, total = (" documents", expected) if self.max_tokens is None else (" tokens", self.max_tokens)
        self.bar = _Bar(total=total, desc=self.folder.name, unit=unit, unit_scale=True, file=stream, dynamic_ncols=True)
        self._tell()
        try:
            yield
        finally:
            self.bar.close()
            self.bar = None

    def _tell(self) -> None:
        if self.bar is not None:
            made = self.documents if self.max_tokens is None else min(self.tokens, self.max_tokens)
            if self.max_tokens is None:
                self.bar.set_postfix_str(f"{self.tokens:,} tokens", refresh=False)
            self.bar.update(made - self.bar.n)
            return
        now = time.monotonic()
        if now - self.said >= NEWS_SECONDS:
            self.said = now
            speed = self.tokens / (now - self.begun)
            self.say(f"tokenising: {self.documents:,} documents, {self.tokens:,} tokens, {speed:,.0f} tokens/s")

    def _save(self, finished: bool) -> None:
        index = {
            "version": VERSION,
            "finished": finished,
            "fingerprint": self.fingerprint,
            "eos_id": self.tokenizer.vocabulary.eos_id,
            "dtype": self.dtype.name,
            "read": self.read,
            "documents": self.documents,
            "tokens": self.tokens,
            "shards": self.shards,
            "parts": self.parts,
        }
        write_whole(self.folder / INDEX_FILE, f"{json.dumps(index)}\n".encode())


def _chunks(texts: Iterator[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text) + 1
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _batches(tokens: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens and int32 offsets of whole documents, grouped into record batches."""
    ends = np.cumsum(lengths)
    first = 0
    while first < len(lengths):
        begin = int(ends[first] - lengths[first])
        last = max(int(np.searchsorted(ends, begin + BATCH_TOKENS, side="right")), first + 1)
        offsets = np.concatenate([[0], ends[first:last] - begin])
        yield tokens[begin : int(ends[last - 1])], offsets.astype(np.int32)
        first = last


def _offsets(path: Path) -> list[int]:
    """The byte offsets in an Arrow stream at which the values of each record batch begin."""
    with pa.memory_map(str(path)) as file:
        begin = file.read_buffer().address
        file.seek(0)
        with pa.ipc.open_stream(file) as stream:
            return [batch.column(0).values.buffers()[1].address - begin for batch in stream]


@contextmanager
def locked(folder: Path, say: Say) -> Iterator[None]:
    """Holds the lock of a folder; waits, with a message, for another process that writes there."""
    handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{folder}: another process is writing it; waiting for its end")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
