"""A set of the hub goes into a token store row by row: it is never held whole, and no more of it is read than fits."""

import dataclasses
import io
import json
import os
import random
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from tiny import tiny_config

from gptgan_jax.cli import main
from gptgan_jax.config import Config
from gptgan_jax.data import store as stores
from gptgan_jax.data import streams
from gptgan_jax.data.config import HfData, TextData
from gptgan_jax.data.corpora import Corpus, Split, load_corpus
from gptgan_jax.data.holding_out import place_of_text
from gptgan_jax.data.store import TokenStore, build_store
from gptgan_jax.data.streams import _First, read_stream
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
        taken += not limits.held_out(place_of_text(text_at(number), 0))
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


def stored_config(folder: Path) -> Config:
    """Of a run on the first 1,500 tokens of a set without end, in a token store."""
    overrides = {
        "data.kind": "hf",
        "data.path": "somebody/endless",
        "data.streaming": True,
        "data.store": str(folder / "store"),
        "data.max_tokens": 1500,
        "likelihood.packing": "concatenate",
        "data.max_prompt_length": 1,
    }
    return tiny_config(folder, overrides)


def test_a_run_is_loaded_from_a_set_without_end(
    tmp_path: Path, endless: Set, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = load_experiment(stored_config(tmp_path))
    assert experiment.store is not None
    assert 1500 <= len(experiment.store) < 1510
    before = endless.read
    assert main(["tokenize", str(tmp_path / "tiny.yaml")]) == 0
    assert f"{experiment.store.documents:,} documents" in capsys.readouterr().out
    assert endless.read == before, "a whole store is opened, and nothing is read again"


def test_the_training_text_is_written_as_far_as_it_is_trained_on(
    tmp_path: Path, endless: Set, capsys: pytest.CaptureFixture[str]
) -> None:
    config = stored_config(tmp_path)
    assert main(["data", str(tmp_path / "tiny.yaml"), "--split", "train"]) == 0
    texts = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert not (tmp_path / "store").exists()
    experiment = load_experiment(config)
    assert experiment.store is not None
    tokenizer: Any = experiment.tokenizer
    ids = experiment.store.tokens(0, len(experiment.store))
    assert ids.tolist() == [i for text in texts for i in tokenizer.ended(tokenizer.encode(text))]


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


# ---- files


def written(folder: Path, lines: list[str], name: str = "lines.txt") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder / name


def of_file(file: Path, folder: Path, **more: Any) -> TextData:
    return TextData(train=str(file), store=str(folder), valid_fraction=0.2, test_fraction=0.2, **more)


def test_the_same_bytes_in_another_place_at_another_time_are_the_same_text(tmp_path: Path) -> None:
    lines = [text_at(number) for number in range(60)]
    one, other = written(tmp_path / "a", lines), written(tmp_path / "b", lines, "copied.txt")
    os.utime(other, (1, 1))
    first = read_stream(of_file(one, tmp_path / "s"), tmp_path / "s")
    again = read_stream(of_file(other, tmp_path / "s"), tmp_path / "s")
    assert again == dataclasses.replace(first, config=again.config)
    changed = [*lines[:-1], lines[-1].translate(str.maketrans("0123456789", "1234567890"))]
    written(tmp_path / "b", changed, "copied.txt")
    assert other.stat().st_size == one.stat().st_size
    assert read_stream(of_file(other, tmp_path / "s"), tmp_path / "s").fingerprint != first.fingerprint


def test_a_set_in_a_folder_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    found = []
    for first in (0, 1):
        texts = [text_at(number) for number in range(first, 60)]
        datasets.Dataset.from_dict({"text": texts}).save_to_disk(tmp_path / "set")
        config = HfData(path=str(tmp_path / "set"), store=str(tmp_path / "s"), valid_fraction=0.2, test_fraction=0.2)
        found.append(read_stream(config, tmp_path / "s"))
    assert found[0].fingerprint != found[1].fingerprint
    assert found[1].count == 59


def test_a_store_holds_out_what_is_held_out_in_memory(tmp_path: Path) -> None:
    lines = [text_at(number) for number in range(80)]
    lines += [line.upper() + "!" for line in lines[:40]]  # near copies, which belong with their like
    file = written(tmp_path / "a", lines)
    stored, held = (
        load_corpus(of_file(file, tmp_path / "s")),
        load_corpus(dataclasses.replace(of_file(file, tmp_path), store=None)),
    )
    for which in ("train", "valid", "test"):
        assert {*getattr(stored, which).texts} == {*getattr(held, which).texts}


def test_copies_at_the_edge_of_what_fits_are_held_out_together_or_not_at_all() -> None:
    for most in range(2, 30):
        found = _First(most)
        places = {"aa": 0.1, "bb": 0.2, "cc": 0.3, "dd": 0.4}
        for text in ["aa", "cc", "bb", "cc", "bb", "dd", "aa", "dd"]:
            found.add(places[text], text)
        bound = found.below(0.5)
        assert found.texts() == [text for text, place in places.items() if place < bound]
        assert found.texts()


def test_named_held_out_text_that_is_trained_on_raises_an_alarm_with_a_store_too(tmp_path: Path) -> None:
    lines = [text_at(number) for number in range(60)]
    valid = written(tmp_path / "v", lines[:30])
    config = of_file(written(tmp_path / "a", lines), tmp_path / "s", valid=str(valid))
    assert any("ALARM" in note and "data.valid shares" in note for note in load_corpus(config).notes)


def test_the_lines_of_a_stored_text_are_all_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_TRAINING", 100)  # characters in memory
    lines = [text_at(number) for number in range(60)]
    written(tmp_path, lines)
    (tmp_path / "x.yaml").write_text(
        f"data: {{kind: text, train: {tmp_path}/lines.txt, store: {tmp_path}/s, valid_fraction: .2, "
        "test_fraction: .2}\nlikelihood: {packing: concatenate}\n"
    )
    found: list[str] = []
    for which in ("train", "valid", "test"):
        assert main(["data", str(tmp_path / "x.yaml"), "--split", which]) == 0
        found += [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert sorted(set(found)) == sorted(set(lines))
    assert not (tmp_path / "s").exists()
