"""Where text comes from: what is read, what is held out, and the one line that says what is wrong with it."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from gptgan_jax.data.config import DataConfig, GrammarData, HfData, OracleData, TextData
from gptgan_jax.data.corpora import Corpus, load_corpus
from gptgan_jax.errors import UserError
from gptgan_jax.sources.oracle import Oracle, init_oracle


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to the user's cache of datasets, and nothing is read from it."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def refused(config: Any) -> str:
    """The message that loading ends with, which is one line."""
    with pytest.raises(UserError) as error:
        load_corpus(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path: Path, lines: list[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(path)


def write_json(path: Path, rows: list[dict]) -> str:
    return write(path, [json.dumps(row) for row in rows])


# ---------------------------------------------------------------------------------------------------------- config


def test_the_kind_chooses_the_config_and_unknown_keys_are_refused() -> None:
    adapter: TypeAdapter = TypeAdapter(DataConfig)
    assert adapter.validate_python({"kind": "text", "train": "a.txt"}) == TextData(train="a.txt")
    assert adapter.validate_python({"kind": "oracle"}).max_length == 20
    with pytest.raises(ValidationError):
        adapter.validate_python({"kind": "text", "trian": "a.txt"})
    with pytest.raises(ValidationError):
        adapter.validate_python({"kind": "novel"})


# --------------------------------------------------------------------------------------------------- drawn sources


def test_grammar_draws_splits_of_their_own_and_knows_their_words_and_probabilities() -> None:
    config = GrammarData(train_size=60, valid_size=50, test_size=40)
    corpus = load_corpus(config)
    assert corpus.test is not None
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (60, 50, 40)
    assert corpus.train.texts[:40] != corpus.valid.texts[:40] != corpus.test.texts
    assert corpus.words is not None
    assert {w for text in corpus.train.texts for w in text.split()} <= set(corpus.words)
    assert corpus.source is not None
    assert all(np.isfinite(corpus.source.log_prob(text)) for text in corpus.test.texts[:5])

    assert load_corpus(config).train.texts == corpus.train.texts
    assert load_corpus(GrammarData(train_size=60, seed=1)).train.texts != corpus.train.texts


def test_oracle_splits_are_its_samples() -> None:
    config = OracleData(vocab_size=30, hidden=4, train_size=7, valid_size=6, test_size=5, max_length=8)
    corpus = load_corpus(config)
    splits = [split for split in (corpus.train, corpus.valid, corpus.test) if split is not None]
    assert [split.tokens.shape for split in splits if split.tokens is not None] == [(7, 8), (6, 8), (5, 8)]
    assert all(split.tokens is not None and split.tokens.dtype == np.int32 for split in splits)
    assert [len(split) for split in splits] == [7, 6, 5]
    assert not np.array_equal(splits[0].tokens[:5], splits[1].tokens[:5])  # type: ignore[index]
    assert isinstance(corpus.source, Oracle)
    assert corpus.source.vocab_size == 30


def test_oracle_reads_its_parameters_from_a_file(tmp_path: Path) -> None:
    params = init_oracle(seed=9, vocab_size=13, hidden=3)
    np.savez(tmp_path / "o.npz", **params)
    corpus = load_corpus(OracleData(path=str(tmp_path / "o.npz"), train_size=3, valid_size=2, test_size=2))
    assert isinstance(corpus.source, Oracle)
    assert np.array_equal(corpus.source.params["W_out"], params["W_out"])
    assert "no such file" in refused(OracleData(path=str(tmp_path / "none.npz")))


# ------------------------------------------------------------------------------------------------------ text files


def test_text_is_a_line_a_document_and_blank_lines_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffein Mann  geht \r\n\n \t\nein\u2028Hund".encode())
    (tmp_path / "b.txt").write_text("\nzwei\n")
    config = TextData(train=str(tmp_path / "a.txt"), valid=str(tmp_path / "?.txt"), test=str(tmp_path / "b.txt"))
    corpus = load_corpus(config)
    assert corpus.train.texts == ["ein Mann  geht", "ein\u2028Hund"]
    assert corpus.valid.texts == ["ein Mann  geht", "ein\u2028Hund", "zwei"]
    assert corpus.test is not None
    assert corpus.test.texts == ["zwei"]
    assert corpus.notes == (
        "data.train: 2 blank lines skipped",
        "data.valid: 3 blank lines skipped",
        "data.test: 1 blank line skipped",
        "data.valid: 2 of its 3 documents are also in data.train",
        "ALARM: data.valid shares 66.7 % of its documents with data.train: what is measured on those is memory; take "
        "them out of one of the two",
    )
    assert corpus.source is None
    assert corpus.words is None


def test_bad_text_files_are_refused_by_name_and_line(tmp_path: Path) -> None:
    good = write(tmp_path / "good.txt", ["one", "two"])
    empty = write(tmp_path / "empty.txt", [])
    blank = write(tmp_path / "blank.txt", ["", " "])
    latin = tmp_path / "latin.txt"
    latin.write_bytes("eins\nzwei M\u00fcnchen\n".encode("latin-1"))

    assert refused(TextData()).startswith("data.train: no training text named; give a UTF-8 file, a folder or a glob")
    assert refused(TextData(train=f"{tmp_path}/no.txt")).startswith(f"data.train: no such file: {tmp_path}/no.txt")
    assert refused(TextData(train=good, test=f"{tmp_path}/*.tx")).startswith(
        f"data.test: no file matches {tmp_path}/*.tx"
    )
    assert refused(TextData(train=f"{tmp_path}/none")) == f"data.train: no such file: {tmp_path}/none"
    for path in (empty, blank):
        message = f"data.valid: {path} is empty; it should hold one document a line"
        assert refused(TextData(train=good, valid=path)) == message
    assert refused(TextData(train=str(latin))) == (
        f"{latin}, line 2: not UTF-8 (byte 0xfc at position 7); convert the file with iconv -t utf-8"
    )


# -------------------------------------------------------------------------------------------------------- held out


def held_out(lines: list[str], folder: Path, **keys: Any) -> Corpus:
    return load_corpus(TextData(train=write(folder / "train.txt", lines), **keys))


def test_held_out_splits_share_no_document_and_lose_none(tmp_path: Path) -> None:
    lines = [f"document {i % 700}" for i in range(1000)]
    corpus = held_out(lines, tmp_path, valid_fraction=0.1, test_fraction=0.2)
    assert corpus.test is not None
    splits = [list(split.texts) for split in (corpus.train, corpus.valid, corpus.test)]
    assert sorted(chain(*splits)) == sorted(lines)
    train, valid, test = map(set, splits)
    assert not train & valid
    assert not train & test
    assert not valid & test
    assert len(valid) / 700 == pytest.approx(0.1, abs=0.04)
    assert len(test) / 700 == pytest.approx(0.2, abs=0.05)
    n_valid, n_test = len(splits[1]), len(splits[2])
    assert corpus.notes == (f"held out of the 1000 documents of data.train: {n_valid} for valid and {n_test} for test",)


def test_the_seed_chooses_what_is_held_out(tmp_path: Path) -> None:
    lines = [f"document {i}" for i in range(300)]
    assert held_out(lines, tmp_path, seed=1).valid.texts == held_out(lines[::-1], tmp_path, seed=1).valid.texts[::-1]
    assert held_out(lines, tmp_path, seed=1).valid.texts != held_out(lines, tmp_path, seed=2).valid.texts


def test_what_is_named_is_not_held_out(tmp_path: Path) -> None:
    lines = [f"document {i}" for i in range(300)]
    other = write(tmp_path / "other.txt", ["other"])

    both = held_out(lines, tmp_path, valid=other, test=other)
    assert both.notes == ()
    assert len(both.train) == 300

    valid_only = held_out(lines, tmp_path, valid=other)
    assert valid_only.test is None
    assert len(valid_only.train) == 300
    assert valid_only.notes == ("no data.test: the validation text stands in for it",)

    test_only = held_out(lines, tmp_path, test=other)
    assert test_only.test is not None
    assert test_only.test.texts == ["other"]
    assert len(test_only.train) + len(test_only.valid) == 300

    no_test = held_out(lines, tmp_path, test_fraction=0.0)
    assert no_test.test is None
    assert len(no_test.train) + len(no_test.valid) == 300


def test_an_empty_split_is_refused_with_what_to_do(tmp_path: Path) -> None:
    one = write(tmp_path / "one.txt", ["one"])
    # Fractions that leave train nothing, and ones that the single document misses.
    assert refused(TextData(train=one, valid_fraction=0.5, test_fraction=0.9)) == (
        "data.train: holding out by content left it none of the 1 document of data.train; lower the fractions"
    )
    assert refused(TextData(train=one, valid_fraction=1e-9, test_fraction=0.0)) == (
        "data.valid: holding out by content left it none of the 1 document of data.train;"
        " raise data.valid_fraction or name data.valid"
    )
    many = write(tmp_path / "many.txt", [f"document {i}" for i in range(300)])
    assert refused(TextData(train=many, test_fraction=1e-9)).endswith("raise data.test_fraction or name data.test")


# ------------------------------------------------------------------------------------------- Hugging Face datasets

ROWS = [
    {"question": "who walks", "answer": "a man walks", "topic": "people"},
    {"question": "who sleeps", "answer": " ", "topic": "people"},
    {"question": "", "answer": "the cat sleeps", "topic": "animals"},
    {"question": "who runs", "answer": "a dog runs", "topic": None},
]
KEYS = {"text_column": "answer", "prompt_column": "question", "label_column": "topic"}


def check_rows(corpus: Corpus) -> None:
    assert corpus.train.texts == ["a man walks", "the cat sleeps", "a dog runs"]
    assert corpus.train.prompts == ["who walks", "", "who runs"]
    assert corpus.train.labels is not None
    assert corpus.train.labels.dtype == np.int32
    assert corpus.train.labels.tolist() == [1, 0, -1]
    assert corpus.classes == ("animals", "people")
    assert "data.train: 1 row without text skipped" in corpus.notes


@pytest.mark.parametrize("streaming", [False, True])
def test_hf_reads_json_files_with_prompts_and_labels(tmp_path: Path, streaming: bool) -> None:
    path = write_json(tmp_path / "rows.jsonl", ROWS)
    glob = str(tmp_path / "*.jsonl")
    config = HfData(path="json", train=path, valid=glob, streaming=streaming, max_documents=99, **KEYS)
    check_rows(load_corpus(config))


def test_hf_reads_csv_and_parquet_files(tmp_path: Path) -> None:
    rows = [row for row in ROWS if row["question"]]  # a csv cannot tell an empty string from none
    table = datasets.Dataset.from_list(rows)
    table.to_csv(tmp_path / "rows.csv")
    table.to_parquet(tmp_path / "rows.parquet")
    for form in ("csv", "parquet"):
        files = str(tmp_path / f"rows.{form}")
        corpus = load_corpus(HfData(path=form, train=files, valid=files, **KEYS))
        assert corpus.train.texts == ["a man walks", "a dog runs"]
        assert corpus.train.labels is not None
        assert corpus.train.labels.tolist() == [0, -1]


def test_hf_reads_a_saved_dict_of_splits(tmp_path: Path) -> None:
    table = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict(train=table, validation=table.select([0])).save_to_disk(tmp_path / "set")
    corpus = load_corpus(HfData(path=str(tmp_path / "set"), valid="validation", **KEYS))
    check_rows(corpus)
    assert corpus.valid.texts == ["a man walks"]
    assert corpus.valid.labels is not None
    assert corpus.valid.labels.tolist() == [1]
    message = refused(HfData(path=str(tmp_path / "set"), valid="dev", **KEYS))
    assert message == f"data.valid: dev of {tmp_path}/set: no such split; there are: train, validation"


def test_hf_reads_a_saved_set_without_splits_and_holds_out_of_it(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": i % 3} for i in range(200)]
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["zoo", "art", "new", "unused"])
    )
    datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "set")
    corpus = load_corpus(HfData(path=str(tmp_path / "set"), label_column="label", max_documents=150))
    assert corpus.test is not None
    assert corpus.classes == ("zoo", "art", "new", "unused")
    splits = (corpus.train, corpus.valid, corpus.test)
    assert sum(map(len, splits)) == 150
    for split in splits:
        assert split.labels is not None
        assert [int(text.split()[1]) % 3 for text in split.texts] == split.labels.tolist()
    assert "without splits" in refused(HfData(path=str(tmp_path / "set"), valid="validation"))


def test_hf_whole_number_labels_are_numbered_in_their_order(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": label} for i, label in enumerate([10, 2, -1, 10, None])]
    path = write_json(tmp_path / "rows.jsonl", rows)
    table_path = tmp_path / "rows.csv"
    datasets.Dataset.from_list(rows).to_csv(table_path)
    for form, file in (("json", path), ("csv", str(table_path))):
        corpus = load_corpus(HfData(path=form, train=file, valid=file, label_column="label"))
        assert corpus.classes == ("2", "10")
        assert corpus.train.labels is not None
        assert corpus.train.labels.tolist() == [1, 0, -1, 1, -1]


def test_hf_streams_no_further_than_it_is_told(tmp_path: Path) -> None:
    path = write_json(tmp_path / "rows.jsonl", [{"text": f"text {i}"} for i in range(50)])
    config = HfData(path="json", train=path, valid=path, streaming=True, max_documents=7)
    assert load_corpus(config).train.texts == [f"text {i}" for i in range(7)]
    assert "data.streaming: needs data.max_documents" in refused(HfData(path="json", train=path, streaming=True))


@pytest.mark.parametrize("streaming", [False, True])
def test_hf_bad_rows_are_refused_by_row_and_column(tmp_path: Path, streaming: bool) -> None:
    good = write_json(tmp_path / "good.jsonl", ROWS)
    more: dict[str, Any] = {"path": "json", "streaming": streaming, "max_documents": 100}

    message = refused(HfData(train=good, text_column="txt", **more))
    assert message == f"data.train: {good}: no column txt; there are: question, answer, topic"

    for value, shown in ((["a"], '["a"]'), (None, "null"), ({"a": "x" * 99}, '{"a": "' + "x" * 73 + "…")):
        bad = write_json(tmp_path / "bad.jsonl", [{"text": "a"}, {"text": "b"}, {"text": value}])
        message = refused(HfData(train=bad, **more))
        assert message == f"data.train: {bad}, row 3: column text holds {shown}, which is no text"

    other = write_json(
        tmp_path / "other.jsonl", [{"question": "q", "answer": "", "topic": "x"}, ROWS[0] | {"topic": "y"}]
    )
    assert refused(HfData(train=good, valid=other, **KEYS, **more)) == (
        f"data.valid: {other}, row 2: label 'y' is none of the training labels: animals, people"
    )

    halves = write_json(tmp_path / "halves.jsonl", [{"text": "a", "label": 0.5}])
    assert "row 1: label 0.5 is neither" in refused(HfData(train=halves, label_column="label", **more))
    nones = write_json(tmp_path / "nones.jsonl", [{"text": "a", "label": -1}])
    assert "no row of it has a label" in refused(HfData(train=nones, label_column="label", **more))
    blank = write_json(tmp_path / "blank.jsonl", [{"text": ""}])
    assert "no document in it" in refused(HfData(train=blank, **more))
    broken = write(tmp_path / "broken.jsonl", ['{"text": "a"}', "not json"])
    message = refused(HfData(train=broken, **more))
    assert message.startswith(f"data.train: {broken}: cannot be read (line 2: Expecting value at column 1; ")


def test_hf_missing_files_are_refused(tmp_path: Path) -> None:
    assert refused(HfData(path="csv")) == "data.train: no csv file named; give a file or a glob"
    assert refused(HfData(path="csv", train=f"{tmp_path}/n.csv")).startswith("data.train: no such file: ")


def test_hf_set_that_cannot_be_reached_says_how_to_name_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach 'no/such' on the Hub\n(offline)")

    monkeypatch.setattr(datasets, "load_dataset_builder", unreachable)
    assert refused(HfData(path="no/such")) == (
        "data.path: no/such is no local dataset folder, and on the hub there is no such set or there is no network"
        " (Couldn't reach 'no/such' on the Hub (offline)); for local files set data.path to json, csv, tsv or parquet"
        " and data.train to a file"
    )


def test_hf_asks_the_hub_for_the_subset_and_split_and_trusts_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*args: Any, **keys: Any) -> Any:
        asked.append((args, keys))
        return datasets.Dataset.from_list([{"text": f"{keys['split']} {i}"} for i in range(3)])

    looked_at = []
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *args: looked_at.append(args))
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = load_corpus(HfData(path="some/set", name="plain", valid="dev"))
    assert looked_at == [("some/set", "plain")] * 2
    keys = {"path": "some/set", "name": "plain", "streaming": False}
    assert asked == [((), keys | {"split": "train"}), ((), keys | {"split": "dev"})]
    assert corpus.valid.texts == ["dev 0", "dev 1", "dev 2"]


def test_right_answers_are_read_where_they_are_needed(tmp_path: Path) -> None:
    """Not of a training file of which nothing is held out."""
    rows = [{"q": f"q {i}", "a": f"a {i}", "right": f"r {i}"} for i in range(60)]
    train, valid = tmp_path / "train.jsonl", tmp_path / "valid.jsonl"
    train.write_text("".join(json.dumps({"q": row["q"], "a": row["a"]}) + "\n" for row in rows[:40]))
    valid.write_text("".join(json.dumps(row) + "\n" for row in rows[40:]))
    keys: dict[str, Any] = {"prompt_column": "q", "text_column": "a", "answer_column": "right", "train": str(train)}
    corpus = load_corpus(HfData(**keys, valid=str(valid)))
    assert corpus.train.answers is None
    assert list(corpus.valid.answers or ()) == [f"r {i}" for i in range(40, 60)]
    with pytest.raises(UserError, match="no column right"):
        load_corpus(HfData(**keys, test=str(valid)))
    with pytest.raises(UserError, match="no column right"):
        load_corpus(HfData(**keys, valid=str(valid)), train_answers=True)
