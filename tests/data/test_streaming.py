"""A set of the hub goes into a token store row by row: it is never held whole, and no more of it is read than fits."""

import io
import random
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from tiny import tiny_config

from gptgan_jax.cli import main
from gptgan_jax.data import store as stores
from gptgan_jax.data import streams
from gptgan_jax.data.config import HfData
from gptgan_jax.data.corpora import Corpus, Split, load_corpus
from gptgan_jax.data.holding_out import place_of
from gptgan_jax.data.store import TokenStore, build_store
from gptgan_jax.data.streams import read_stream
from gptgan_jax.data.tokenizers import WordTokenizer, fit_tokenizer
from gptgan_jax.runs.experiment import load_experiment

WORDS = [f"w{i}" for i in range(30)]
FAR_TOO_MANY = 20_000
CHUNK = 1000


class Set:
    """A set of the hub that has no end, and counts the rows that are read of it."""

    def __init__(self) -> None:
        self.read = self.most = 0

    def rows(self) -> Iterator[dict[str, str]]:
        self.most, self.read = max(self.most, self.read), 0
        for number in range(FAR_TOO_MANY):
            self.read += 1
            yield {"text": text_at(number)}
        raise AssertionError("all of the set is read")

    def load_dataset(self, path: str, name: str | None, split: str, streaming: bool) -> datasets.IterableDataset:
        assert (path, split, streaming) == ("somebody/endless", "train", True), "it would be downloaded whole"
        return datasets.IterableDataset.from_generator(self.rows)


def text_at(number: int) -> str:
    """A text of 2 to 9 words, always the same."""
    chosen = random.Random(number)
    return " ".join(chosen.choices(WORDS, k=chosen.randint(2, 9)))


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Set:
    one = Set()
    info = types.SimpleNamespace(info=types.SimpleNamespace(features=None))
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda path, name: info)
    monkeypatch.setattr(datasets, "load_dataset", one.load_dataset)
    monkeypatch.setattr(stores, "CHUNK", CHUNK)
    return one


def data(folder: Path, **more: Any) -> HfData:
    keys: dict[str, Any] = {"path": "somebody/endless", "streaming": True, "store": str(folder / "store")}
    return HfData(**(keys | {"max_tokens": 2000} | more))


def stored(config: HfData, bar: Any = None, said: list[str] | None = None) -> TokenStore:
    streamed = load_corpus(config).streamed
    assert streamed is not None
    tokenizer: Any = fit_tokenizer(WordTokenizer(), load_corpus(config))
    say = [].append if said is None else said.append
    folder = Path(str(config.store))
    return build_store(folder, streamed.training, tokenizer, "f", say, config.max_tokens, bar, streamed.expected)


def test_reading_ends_where_the_store_is_full(tmp_path: Path, endless: Set) -> None:
    store = stored(data(tmp_path))
    limits = read_stream(data(tmp_path), tmp_path / "store").limits
    taken = number = 0
    while taken < store.documents:
        taken += not limits.held_out(place_of(text_at(number), 0))
        number += 1
    # The tokenizer is two chunks ahead of the file at most, and the library reads a thousand rows at once.
    most = number + 2 * CHUNK // len("w0 w0") + 1000
    assert store.documents < endless.read <= most
    assert endless.most <= most


@pytest.mark.parametrize("max_tokens", [500, 2000, 3001])
def test_no_document_begins_behind_so_many_tokens(tmp_path: Path, endless: Set, max_tokens: int) -> None:
    store = stored(data(tmp_path, max_tokens=max_tokens))
    assert max_tokens <= len(store) < max_tokens + 10


def test_held_out_text_is_in_no_store_however_far_it_is_read(
    tmp_path: Path, endless: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first pass sees a part of what the second one reads.
    monkeypatch.setattr(streams, "CHARACTERS_A_TOKEN", 1)
    config = data(tmp_path, max_tokens=5000)
    corpus = load_corpus(config)
    assert corpus.test is not None
    assert endless.read < 1000 + 5000
    held = {*corpus.valid.texts, *corpus.test.texts}
    store = stored(config)
    tokenizer: Any = fit_tokenizer(WordTokenizer(), corpus)
    ids, texts = store.tokens(0, len(store)).tolist(), []
    while ids:
        end = ids.index(store.eos_id)
        texts.append(tokenizer.decode(ids[:end]))
        ids = ids[end + 1 :]
    assert len(held) > 10
    assert not held & set(texts)
    assert len(texts) > len(corpus.train.texts)


def test_the_part_in_memory_is_of_what_is_read_first_and_no_more(tmp_path: Path, endless: Set) -> None:
    corpus = load_corpus(data(tmp_path, max_tokens=1000))
    assert corpus.streamed is not None
    assert not corpus.streamed.whole
    read = sum(len(text) for text in (*corpus.train.texts, *corpus.valid.texts, *(corpus.test or corpus.valid).texts))
    assert read <= 4 * 1000 + 40
    assert any("the first" in note for note in corpus.notes)


def test_a_run_is_loaded_from_a_set_without_end(
    tmp_path: Path, endless: Set, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {
        "data.kind": "hf",
        "data.path": "somebody/endless",
        "data.streaming": True,
        "data.store": str(tmp_path / "store"),
        "data.max_tokens": 1500,
        "likelihood.packing": "concatenate",
        "data.max_prompt_length": 1,
    }
    experiment = load_experiment(tiny_config(tmp_path, overrides))
    assert experiment.store is not None
    assert 1500 <= len(experiment.store) < 1510
    before = endless.read
    assert main(["tokenize", str(tmp_path / "tiny.yaml")]) == 0
    assert f"{experiment.store.documents:,} documents" in capsys.readouterr().out
    assert endless.read == before, "a whole store is opened, and nothing is read again"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("max_tokens", [400, None])
def test_a_terminal_is_shown_a_bar_and_anything_else_plain_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_tokens: int | None
) -> None:
    monkeypatch.setattr(stores, "CHUNK", 200)
    monkeypatch.setattr(stores, "NEWS_SECONDS", 0.0)
    texts = [text_at(i) for i in range(300)]
    tokenizer: Any = fit_tokenizer(WordTokenizer(), Corpus(Split(texts), Split(), None))

    def build(folder: str, bar: io.StringIO) -> list[str]:
        said: list[str] = []
        build_store(tmp_path / folder, lambda: texts, tokenizer, "f", said.append, max_tokens, bar, len(texts))
        return said

    terminal, file = Terminal(), io.StringIO()
    said = build("one", terminal)
    assert "100%" in terminal.getvalue()
    assert ("tokens" if max_tokens else "documents") in terminal.getvalue()
    assert not [line for line in said if line.startswith("tokenising")]
    said = build("two", file)
    assert file.getvalue() == ""
    assert [line for line in said if line.startswith("tokenising")]
