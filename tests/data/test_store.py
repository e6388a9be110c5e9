"""A token store holds all training text and nothing else, however it came about, and is read like text in memory."""

import dataclasses
import errno
import fcntl
import json
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import jax
import numpy as np
import pytest
from tiny import tiny_config

from gptgan_jax.cli import main
from gptgan_jax.data import packing, streams
from gptgan_jax.data import store as room
from gptgan_jax.data.config import HfData, TextData
from gptgan_jax.data.corpora import Corpus, Split, load_corpus
from gptgan_jax.data.encoding import encode_split
from gptgan_jax.data.packing import packed_batch_at, packed_split, stored_rows
from gptgan_jax.data.store import TokenStore, build_store, open_store
from gptgan_jax.data.tokenizers import WordTokenizer, fit_tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.runs import experiment as experiments
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.tokenization.token_ids import TokenIds
from gptgan_jax.workflows.run import train_run

WORDS = [f"w{i}" for i in range(30)]


def texts_of(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(count)]


TEXTS = texts_of(60)
TOKENIZER: Any = fit_tokenizer(WordTokenizer(), Corpus(Split([*TEXTS, " ".join(WORDS)]), Split(), None))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks, record batches and files of a few documents."""
    for name, size in (("CHUNK", 60), ("BATCH_TOKENS", 8), ("SHARD_TOKENS", 40)):
        monkeypatch.setattr(room, name, size)


def build(
    folder: Path, texts: list[str], said: list[str] | None = None, fingerprint: str = "f", **more: Any
) -> TokenStore:
    return build_store(folder, lambda: texts, TOKENIZER, fingerprint, (said if said is not None else []).append, **more)


def expected(texts: list[str]) -> list[int]:
    return [i for text in texts for i in TOKENIZER.ended(TOKENIZER.encode(text))]


def test_it_holds_every_document_in_order_with_its_end(tmp_path: Path) -> None:
    store = build(tmp_path, TEXTS)
    whole = expected(TEXTS)
    assert store.documents == len(TEXTS)
    assert store.tokens(0, len(store)).tolist() == whole
    assert len({file for file, _, _ in store.parts}) > 3
    rng = random.Random(1)
    for _ in range(50):
        start, end = sorted(rng.choices(range(len(whole) + 20), k=2))
        assert store.tokens(start, end).tolist() == whole[start:end]


def test_the_datasets_library_reads_its_files(tmp_path: Path) -> None:
    build(tmp_path, TEXTS)
    files = sorted(tmp_path.glob("tokens-*.arrow"))
    rows = [row for file in files for row in datasets.Dataset.from_file(str(file))["tokens"]]
    assert rows == [TOKENIZER.ended(TOKENIZER.encode(text)) for text in TEXTS]


def rows_of(folder: Path, how: Any, length: int = 7, across: bool = False, said: Any = None) -> Any:
    store, vocabulary = build(folder, TEXTS), TOKENIZER.vocabulary
    return stored_rows(store, how, vocabulary, length, across, (said if said is not None else []).append)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("how", ["concatenate", "best_fit"])
def test_its_rows_are_those_of_the_same_text_in_memory(tmp_path: Path, how: Any, across: bool) -> None:
    stored = rows_of(tmp_path, how, across=across)
    in_memory = packed_split(encode_split(Split(TEXTS), TOKENIZER, 7, long_documents="split"), how, across)
    assert (len(stored), stored.tokens) == (len(in_memory), in_memory.tokens)
    for position in range(30):
        one, other = (packed_batch_at(rows, 3, position, 4) for rows in (stored, in_memory))
        jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("block", [1, 5, 40, 1000])
@pytest.mark.parametrize("length", [3, 64])
def test_best_fit_in_blocks_has_each_token_once_whole_documents_and_what_stands_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, length: int
) -> None:
    monkeypatch.setattr(packing, "BLOCK", block)
    rows = rows_of(tmp_path, "best_fit", length)
    batch = rows.gather(np.arange(len(rows)))
    found: list[list[int]] = []
    for inside, target, mask, segments in zip(
        batch.packed.inputs, batch.target, batch.target_mask, batch.packed.segments, strict=True
    ):
        assert np.array_equal(mask, segments > 0)
        for segment in range(1, segments.max() + 1):
            places = segments == segment
            assert np.array_equal(inside[places][1:], target[places][:-1])
            found.append([int(inside[places][0]), *target[places].tolist()])
    wanted = []
    for text in TEXTS:
        document = expected([text])
        for start in range(0, len(document), length):
            before = TOKENIZER.vocabulary.bos_id if start == 0 else document[start - 1]
            wanted.append([before, *document[start : start + length]])
    assert sorted(found) == sorted(wanted)
    assert sum(map(len, found)) - len(found) == rows.tokens == len(expected(TEXTS))


def test_best_fit_rows_are_found_once_and_again_where_their_files_are_not_whole(tmp_path: Path) -> None:
    said: list[str] = []
    first = rows_of(tmp_path, "best_fit", said=said)
    assert ["packing" in line for line in said[-1:]] == [True]
    kept, made = first.gather(np.arange(len(first))), first.rows.stat().st_mtime_ns
    said.clear()
    assert rows_of(tmp_path, "best_fit", said=said).rows.stat().st_mtime_ns == made
    assert said == []
    first.parts.write_bytes(first.parts.read_bytes()[:-16])
    (tmp_path / "best_fit-7-older.rows").write_bytes(b"")
    again = rows_of(tmp_path, "best_fit", said=said)
    jax.tree.map(np.testing.assert_array_equal, again.gather(np.arange(len(again))), kept)
    assert [path.name for path in sorted(tmp_path.glob("best_fit*"))] == ["best_fit-7-f.parts", "best_fit-7-f.rows"]


def test_a_whole_store_is_opened_and_a_stale_one_written_anew(tmp_path: Path) -> None:
    build(tmp_path, TEXTS)
    times = {file: file.stat().st_mtime_ns for file in tmp_path.glob("tokens-*")}
    said: list[str] = []
    build(tmp_path, [], said)  # its documents are not even asked for
    assert said == []
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("tokens-*")} == times
    store = build(tmp_path, TEXTS[:20], said, "another")
    assert "have changed since it was written; it is written anew" in said[0]
    assert store.tokens(0, len(store)).tolist() == expected(TEXTS[:20])
    assert {file.name for file in tmp_path.glob("tokens-*")} == {file for file, _, _ in store.parts}


def test_a_run_never_reads_what_another_wrote_into_the_folder_since(tmp_path: Path) -> None:
    def other(folder: Path) -> TokenStore:
        return build(folder, texts_of(60, seed=1), fingerprint="another")

    store = build(tmp_path, TEXTS)
    first = len(expected(TEXTS[:2]))
    assert store.tokens(0, first).tolist() == expected(TEXTS[:2])
    other(tmp_path)
    assert store.tokens(0, first).tolist() == expected(TEXTS[:2])  # of a file that was open
    with pytest.raises(UserError, match=r"another run .* may have taken the folder over: give each a data\.store"):
        store.tokens(0, len(store))


def test_a_store_is_opened_before_another_run_can_take_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = room.locked

    @contextmanager
    def then_another(folder: Path, say: Any) -> Iterator[None]:
        with lock(folder, say):
            yield
        monkeypatch.setattr(room, "locked", lock)
        build(tmp_path, TEXTS[:5], fingerprint="another")

    monkeypatch.setattr(room, "locked", then_another)
    assert build(tmp_path, TEXTS).documents == len(TEXTS)


def test_lists_of_numbers_are_no_text_to_store(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 7 holds \[1, 2\], which is no text; .* tokenizer.kind to ids"):
        build(tmp_path, [*TEXTS, TokenIds("1 2", "row 7 holds [1, 2]")])
    assert open_store(tmp_path, "whichever") == ""  # none that is finished


class Killed(BaseException):
    """What ends the writing here."""


@pytest.mark.parametrize("at", [1, 20, 45])
def test_one_that_was_cut_short_is_never_used_and_is_gone_on_with(tmp_path: Path, at: int) -> None:
    def dying() -> Iterator[str]:
        for i, text in enumerate(TEXTS):
            if i == at:
                raise Killed
            yield text

    with pytest.raises(Killed):
        build_store(tmp_path, dying, TOKENIZER, "f", lambda line: None)
    assert not isinstance(open_store(tmp_path, "f"), TokenStore)
    kept = {file.name: file.read_bytes() for file in tmp_path.glob("tokens-*.arrow")}
    assert bool(kept) == (at > 1)
    store = build(tmp_path, TEXTS)
    assert store.tokens(0, len(store)).tolist() == expected(TEXTS)
    assert store.documents == len(TEXTS)
    assert all((tmp_path / name).read_bytes() == content for name, content in kept.items())
    assert not list(tmp_path.glob("*.tmp"))


def test_a_full_disk_is_one_line_and_the_whole_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, count = os.replace, 0

    def full(source: Any, target: Any) -> None:
        nonlocal count
        count += str(target).endswith(".arrow")
        if count == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(UserError, match=r"No space left on device\); its whole files are kept") as error:
            build(tmp_path, TEXTS)
    assert "\n" not in str(error.value)
    assert len(list(tmp_path.glob("tokens-*.arrow"))) == 2
    store = build(tmp_path, TEXTS)
    assert store.tokens(0, len(store)).tolist() == expected(TEXTS)


def test_it_ends_behind_so_many_tokens(tmp_path: Path) -> None:
    store = build(tmp_path, TEXTS, max_tokens=50)
    assert 50 <= len(store) < 50 + 2 * 60  # a chunk more at most
    assert store.tokens(0, len(store)).tolist() == expected(TEXTS[: store.documents])


def test_two_processes_do_not_write_at_once(tmp_path: Path) -> None:
    other = os.open(tmp_path / room.LOCK_FILE, os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    said: list[str] = []
    thread = threading.Thread(target=build, args=(tmp_path, TEXTS, said))
    thread.start()
    while not said:
        thread.join(0.05)
    assert "another process is writing it; waiting" in said[0]
    assert not (tmp_path / room.INDEX_FILE).exists()
    os.close(other)
    thread.join()
    assert isinstance(open_store(tmp_path, "f"), TokenStore)


def test_a_file_that_is_too_short_is_told_of(tmp_path: Path) -> None:
    store = build(tmp_path, TEXTS)
    file, offset, _ = store.parts[-1]
    os.truncate(tmp_path / file, offset)
    with pytest.raises(UserError, match="is shorter than"):
        store.tokens(0, len(store))


# ---- what goes into it


def write(path: Path, texts: list[str]) -> str:
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("kind", ["text", "hf"])
def test_held_out_text_is_in_no_store_and_all_other_text_is(tmp_path: Path, kind: str) -> None:
    texts = list(dict.fromkeys(texts_of(400)))
    if kind == "text":
        config: Any = TextData(train=write(tmp_path / "a.txt", texts), store=str(tmp_path / "store"))
    else:
        lines = [json.dumps({"text": text}) for text in texts]
        config = HfData(train=write(tmp_path / "a.jsonl", lines), store=str(tmp_path / "store"))
    corpus = load_corpus(config)
    assert corpus.streamed is not None
    assert corpus.test is not None
    held = {*corpus.valid.texts, *corpus.test.texts}
    assert not {*corpus.valid.texts} & {*corpus.test.texts}
    assert 20 < len(held) < 80
    assert list(corpus.streamed.training()) == [text for text in texts if text not in held]
    assert {*corpus.train.texts} == {*texts} - held
    (tmp_path / "store" / "sample.json").stat()
    again = load_corpus(config)
    assert [*again.train.texts] == [*corpus.train.texts]


def test_what_is_in_memory_is_bounded_and_the_rest_of_held_out_text_is_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_TRAINING", 1000)
    monkeypatch.setattr(streams, "MOST_HELD_OUT", 200)
    texts = list(dict.fromkeys(texts_of(600)))
    config = TextData(
        train=write(tmp_path / "a.txt", texts), store=str(tmp_path / "store"), valid_fraction=0.2, test_fraction=0.2
    )
    corpus = load_corpus(config)
    assert corpus.streamed is not None
    assert corpus.test is not None
    for split, most in ((corpus.train, 1000), (corpus.valid, 200), (corpus.test, 200)):
        assert most - 30 < sum(map(len, split.texts)) <= most
    held = {*corpus.valid.texts, *corpus.test.texts}
    assert list(corpus.streamed.training()) == [text for text in texts if text not in held]
    assert not held & {*corpus.train.texts}


def stored_config(folder: Path, **more: Any) -> Any:
    return tiny_config(
        folder,
        {
            "data.train": write(folder / "large.txt", texts_of(300)),
            "data.store": str(folder / "store"),
            "likelihood.packing": "concatenate",
            "warmup.steps": 2,
            **more,
        },
    )


@pytest.mark.thorough
def test_a_run_learns_from_it_and_goes_on_from_it_to_the_same(tmp_path: Path) -> None:
    tmp_path.mkdir(exist_ok=True)
    config = stored_config(tmp_path)
    said: list[str] = []
    whole = train_run(config, said.append)
    assert any("packed rows" in line for line in said)
    other = dataclasses.replace(config, runs_folder=str(tmp_path / "others"))
    again = train_run(other, said.append)
    assert read_metrics(again.path) == read_metrics(whole.path)
    experiment = load_experiment(config)
    assert experiment.store is not None
    assert experiment.store.documents > len(experiment.valid)


def test_a_run_whose_store_has_other_text_by_now_is_refused(tmp_path: Path) -> None:
    config = stored_config(tmp_path, **{"warmup.steps": 0, "adversarial.steps": 0, "continued.steps": 0})
    train_run(config, lambda line: None)
    with open(tmp_path / "large.txt", "a", encoding="utf-8") as file:
        file.write("w1 w2 w3 w4\n")
    with pytest.raises(UserError, match="has changed since"):
        train_run(config, lambda line: None)


def test_a_folder_that_can_not_be_made_is_refused_before_the_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(UserError, match=r"data\.store .* can't be made"):
            load_corpus(TextData(train=write(tmp_path / "a.txt", texts_of(100)), store=str(folder)))


def test_the_command_makes_it_alone_and_says_what_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = write(tmp_path / "a.txt", texts_of(200))
    (tmp_path / "pre.yaml").write_text(
        f"data: {{kind: text, train: {texts}, store: {tmp_path / 'store'}}}\nlikelihood: {{packing: concatenate}}\n"
    )
    command = ["tokenize", str(tmp_path / "pre.yaml"), "--data.max_length", "16"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    store = json.loads((tmp_path / "store" / "store.json").read_text())
    assert f"{store['documents']:,} documents, {store['tokens']:,} tokens of 2 bytes" in printed
    assert f"{-(-store['tokens'] // 16):,} rows of 16 tokens" in printed
    assert main(command) == 0
    assert capsys.readouterr().out == printed
    assert main([*command, "--likelihood.packing", "best_fit"]) == 0
    (made,) = (tmp_path / "store").glob("best_fit-16-*.rows")
    assert f"{made.stat().st_size // 8 - 1:,} rows of 16 tokens" in capsys.readouterr().out


def test_a_tokenizer_that_another_run_puts_there_meanwhile_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = stored_config(tmp_path)
    own = load_experiment(config).tokenizer.vocabulary
    read = experiments.load_tokenizer

    def then_another(folder: Path) -> Any:
        monkeypatch.setattr(experiments, "load_tokenizer", read)
        other = dataclasses.replace(config, tokenizer=WordTokenizer(vocab_size=10))
        assert load_experiment(other).tokenizer.vocabulary.size == 10
        return read(folder)

    monkeypatch.setattr(experiments, "load_tokenizer", then_another)
    assert load_experiment(config).tokenizer.vocabulary == own


def test_text_that_can_not_be_read_is_no_fault_of_the_store(tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield "w1 w2"
        raise ConnectionError("the line is cut")

    with pytest.raises(UserError, match=r"^data\.train: cannot be read \(the line is cut\)$"):
        build_store(tmp_path, broken, TOKENIZER, "f", lambda line: None)
