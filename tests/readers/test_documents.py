"""Rows of files and data sets: every cell is what stands there, and what is wrong has its place."""

import bz2
import csv
import datetime
import gzip
import json
import lzma
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptgan_jax.data.config import HfData
from gptgan_jax.data.corpora import load_corpus
from gptgan_jax.errors import UserError
from gptgan_jax.readers.cells import Number, as_json, as_label, as_text, label_order, shown
from gptgan_jax.readers.documents import Columns, Table, read_lines, read_prompt_rows, read_table
from gptgan_jax.readers.files import format_of
from gptgan_jax.readers.row_files import rows_of_file
from gptgan_jax.readers.row_sources import open_rows

LABELLED = Columns("text", label="label")
# What readers that guess types make numbers, times, truths or nothing of.
GUESSED = [
    "007", "1.0", "1.50", "1e5", "-3", "+7", "0x10", "1,5", "None", "NA", "N/A", "nan", "NaN", "null", "NULL", "true",
    "False", "1990-07-04", "2024-05-01T10:00:00", "10:30", "inf", "<NA>", "#N/A", "''", " padded ", "a,b", 'say "hi"',
    "two\nlines", "two\r\nlines", "a\u2028b", "é", "[1]", "{}",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to the user's cache of datasets, and nothing is read from it."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def table(file: Path | str, columns: Columns = LABELLED, path: str = "json", **keys: Any) -> Table:
    return read_table(open_rows(f"data.train: {file}", path, None, str(file), "train", False), columns, **keys)


def refused(file: Path | str, columns: Columns = LABELLED, path: str = "json") -> str:
    with pytest.raises(UserError) as error:
        table(file, columns, path)
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def write_delimited(path: Path, rows: list[list[str]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


# ---- cells as they are written


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
def test_a_text_that_looks_like_something_else_stays_a_text(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    if name.endswith("sv"):
        rows = [["text", "label"], *([text, text] for text in GUESSED)]
        write_delimited(file, rows, "," if name == "a.csv" else "\t")
    else:
        lines = [json.dumps({"text": text, "label": text}) for text in GUESSED]
        write(file, "\n".join(lines) if name == "a.jsonl" else f"[{','.join(lines)}]")
    found = table(file)
    assert found.texts == GUESSED
    assert found.labels == GUESSED
    assert set(found.classes) == set(GUESSED)


def test_numbers_of_json_have_the_digits_that_they_are_written_with(tmp_path: Path) -> None:
    written = [
        "7",
        "1.50",
        "1e5",
        "-0.0",
        "123456789012345678901234567890",
        "0.1000000000000000055511151231257827",
        "true",
    ]
    file = write(tmp_path / "a.jsonl", "".join(f'{{"text": {one}}}\n' for one in ['"mixed"', *written]))
    assert table(file, Columns("text")).texts == ["mixed", *written]


def test_no_label_is_an_empty_cell_nothing_and_minus_one(tmp_path: Path) -> None:
    rows = [["text", "label"], *([f"t{i}", label] for i, label in enumerate(["3", "", "-1", "10", " ", "2"]))]
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        found = table(write_delimited(tmp_path / name, rows, delimiter))
        assert found.labels == ["3", None, None, "10", None, "2"]
        assert found.classes == ("2", "3", "10")
    labels = ["3", '""', "-1", "10", "null", "2.0", "NaN", "-1.0"]
    lines = [f'{{"text": "t", "label": {label}}}' for label in labels] + ['{"text": "t"}']
    found = table(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert found.labels == ["3", None, None, "10", None, "2", None, None, None]


def test_rows_without_a_label_are_counted(tmp_path: Path) -> None:
    file = str(write_delimited(tmp_path / "a.csv", [["text", "label"], ["a", "x"], ["b", ""], ["c", "-1"]]))
    corpus = load_corpus(HfData(train=file, valid=file, label_column="label"))
    assert "data.train: 2 of its 3 rows without a label (empty, null or -1)" in corpus.notes


def test_a_label_is_a_class_or_refused() -> None:
    assert [as_label(one) for one in ("None", True, 7, 7.0, Number("7"), Number("7.0"))] == [
        "None", "true", "7", "7", "7", "7",
    ]  # fmt: skip
    assert [as_label(one, ["a", "b"]) for one in (1, 0, -1, None)] == ["b", "a", None, None]
    for one in (0.5, Number("0.5"), ["x"], {}, datetime.date(2024, 1, 1)):
        with pytest.raises(ValueError, match="neither a string nor a whole number"):
            as_label(one)
    assert sorted(["b", "10", "9", "-1", "a", "007"], key=label_order) == ["-1", "007", "9", "10", "a", "b"]


def test_dates_of_a_typed_file_are_written_by_iso_8601(tmp_path: Path) -> None:
    day, moment = datetime.date(2024, 5, 1), datetime.datetime(2024, 5, 1, 10, 30, tzinfo=datetime.UTC)
    columns = {"day": [day], "moment": [moment], "price": [Decimal("1.50")], "text": ["None"], "label": [7.0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    for column, text in (("day", "2024-05-01"), ("moment", "2024-05-01T10:30:00+00:00"), ("price", "1.50")):
        assert table(tmp_path / "a.parquet", Columns(column)).texts == [text]
    assert table(tmp_path / "a.parquet").labels == ["7"]
    assert as_text(day, dates=False) is None
    assert [as_text(one) for one in (None, float("nan"), b"x", ["x"])] == [None] * 4


# ---- files


@pytest.mark.parametrize("ending", ["json", "jsonl", "ndjson", "jl", "jsonl.gz", "JSONL", "json.bz2", "jsonl.xz"])
def test_every_usual_ending_of_json_lines_is_read_packed_or_not(ending: str, tmp_path: Path) -> None:
    packed: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    pack = packed.get(ending.split(".")[-1], bytes)
    file = write(tmp_path / f"a.{ending}", pack(b'{"text": "a", "label": 1}\n'))
    assert format_of(file) == "json"
    assert table(file).texts == ["a"]
    assert read_prompt_rows(open_rows("", "json", None, str(file), "", False), "text")[1] == ["a"]


def test_the_ending_says_the_format_and_data_path_does_where_there_is_none(tmp_path: Path) -> None:
    comma, tab = b"text,label\na b,1\n", b"text\tlabel\na b\t1\n"
    for name, content, path in (
        ("a.csv", comma, "json"),
        ("a.tsv", tab, "csv"),
        ("a.csv.gz", gzip.compress(comma, mtime=0), "json"),
        ("a.txt", comma, "csv"),
        ("b.txt", tab, "tsv"),
        ("b.csv", tab, "tsv"),
        ("a.jsonl", b'{"text": "a b", "label": 1}', "parquet"),
    ):
        assert table(write(tmp_path / name, content), path=path).texts == ["a b"]


@pytest.mark.parametrize("begin", ["", "\ufeff", "\n", "\ufeff\r\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_at_the_beginning_and_ends_of_lines_are_no_text(begin: str, end: str, tmp_path: Path) -> None:
    lines = {
        "a.csv": ["text,label", '"a ""b""",x', "c,y", ""],
        "a.tsv": ["text\tlabel", '"a ""b"""\tx', "c\ty", ""],
        "a.jsonl": [r'{"text": "a \"b\"", "label": "x"}', '{"text": "c", "label": "y"}', ""],
        "a.json": [r'[{"text": "a \"b\"", "label": "x"},', '{"text": "c", "label": "y"}', "]"],
    }
    for name, content in lines.items():
        found = table(write(tmp_path / name, begin + end.join(content)))
        assert (found.texts, found.labels) == (['a "b"', "c"], ["x", "y"])


def test_quotes_of_a_tsv_file_are_letters_where_they_do_not_close(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.tsv", 'text\tlabel\nhe said "hi\t1\n"x" y\t\n"z\t2\n')
    assert table(plain).texts == ['he said "hi', '"x" y', '"z']
    quoted = write(tmp_path / "b.tsv", 'text\tlabel\n"tab\there"\t1\nx\t2\n')
    assert table(quoted).texts == ["tab\there", "x"]
    # A quote within a cell without quotes around it: this file has none around cells, whatever its other rows hold.
    write(plain, 'text\tlabel\n"Yes"\t1\nsay "hi" now\t2\n')
    assert table(plain).texts == ['"Yes"', 'say "hi" now']
    write(plain, 'text\tlabel\n"Yes\nno"\t1\n5" nail\t2\n"x"\t3\n')
    assert "cells" in refused(plain)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_carriage_return_within_a_line_is_part_of_its_cell(name: str, tmp_path: Path) -> None:
    # As pandas writes it with Python 3.11: without quotes.
    gap = "," if name.endswith("csv") else "\t"
    file = write(tmp_path / name, f'text{gap}label\r\na\rb{gap}1\r\n"c\rd"{gap}2\r\n\re\r{gap}3\r\n')
    found = table(file)
    assert (found.texts, found.labels) == (["a\rb", "c\rd", "\re\r"], ["1", "2", "3"])


def test_the_same_name_twice_in_an_object_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "text": "c", "label": "x"}\n')
    assert 'line 2: an object has "text" twice; rename one' in refused(file)
    write(file, '{"text": "a", "label": {"n": 1, "m": 2, "n": 3}}\n')
    assert 'line 1: an object has "n" twice; rename one' in refused(file)


def test_a_number_without_a_class_name_is_refused(tmp_path: Path) -> None:
    assert as_label(1, ["neg", "pos"]) == "pos"
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"]))
    file = tmp_path / "a.parquet"
    datasets.Dataset.from_dict({"text": ["a"], "label": [1]}, features=features).to_parquet(file)
    schema = pyarrow.parquet.read_schema(file)
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "b"], "label": [1, 2]}, schema=schema), file)
    assert "row 2: label 2 is none of the 2 classes that the file names" in refused(file, path="parquet")


def test_blank_lines_and_rows_without_text_are_counted_apart(tmp_path: Path) -> None:
    for name, content in (
        ("a.csv", "text,label\n\na,1\n ,2\n\nb,3\n"),
        ("a.jsonl", '\n{"text": "a"}\n{"text": " "}\n  \n{"text": "b"}\n'),
    ):
        found = table(write(tmp_path / name, content), Columns("text"))
        assert (found.texts, found.blank, found.blank_lines) == (["a", "b"], 1, 2)
        assert [place.line for place in found.places] == [3 if name == "a.csv" else 2, 6 if name == "a.csv" else 5]
    corpus = load_corpus(HfData(train=str(tmp_path / "a.jsonl"), valid=str(tmp_path / "a.csv")))
    assert {"data.train: 2 blank lines skipped", "data.valid: 1 row without text skipped"} <= set(corpus.notes)


def test_several_files_are_read_one_after_another_and_errors_name_theirs(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", '{"text": "a"}\n')
    write(tmp_path / "2.csv", "text,label\nb,x\n")
    write(tmp_path / "3.ndjson", '{"text": "c", "label": "y"}\n')
    found = table(tmp_path / "*")
    assert (found.texts, found.labels) == (["a", "b", "c"], [None, "x", "y"])
    write(tmp_path / "4.jl", '{"text": "d"}\n\n{"text": null}\n')
    assert refused(tmp_path / "*") == (
        f"data.train: {tmp_path}/*, {tmp_path}/4.jl, row 2 (line 3): column text holds null, which is no text"
    )
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "5.parquet")
    assert "names parquet files and others" in refused(tmp_path / "*")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text"\n', "cannot be read (line 2: Expecting ':' delimiter at column 8; "),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', 'row 2: ["b"] is no object; a JSON file should hold an object a line'),
        ("a.json", '[{"text": "a"},\n{"text": }]', "cannot be read (line 2: Expecting value at column 10; "),
        ("a.json", '[{"text": "a"}, "b"]', 'row 2: "b" is no object'),
        ("a.jsonl", '{"text": "\\ud83d"}', "line 1: an escape such as \\ud800 is half a character"),
        ("a.jsonl", '{"text": ' + "[" * 100_000, "line 1: nested too deeply"),
        (
            "a.jsonl",
            '{"text": {"a": "' + "x" * 200 + '"}}',
            'column text holds {"a": "' + "x" * 73 + "…, which is no text",
        ),
        ("a.jsonl", '{"text": NaN}', "row 1: column text holds NaN, which is no text"),
        ("a.jsonl", '{"said": "a"}\n{"meant": "b"}', "no column text; there are: said, meant"),
        ("a.csv", "text,label\na,b,c\n", "row 1 (line 2): it has 3 cells, and the header names 2 columns"),
        ("a.csv", 'text,label\n"a\nb",1\nc\n', "row 2 (line 4): it has 1 cells, and the header names 2 columns"),
        ("a.csv", 'text,label\nx,1\n"a,b\nc,d\n', "cannot be read (line 3: unexpected end of data; a quote inside"),
        ("a.csv", 'text,label\n"a" b,1\n', "cannot be read (line 2: ',' expected after '\"'; a quote inside"),
        ("a.csv", "text,text\na,b\n", 'line 1: the header names column "text" twice'),
        ("a.csv", "text,label\n", "no document in it; column text should hold text"),
        ("a.csv", b"text\na\n\xff\n", "a.csv, line 3: not UTF-8 (byte 0xff at position 1)"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text": "a"}\n' * 9, mtime=0)[:-12],
            "a.jsonl.gz: cannot be read (a damaged archive: ",
        ),
    ],
)
def test_a_malformed_file_is_refused_by_its_line(name: str, content: str | bytes, says: str, tmp_path: Path) -> None:
    message = refused(write(tmp_path / name, content), Columns("text"))
    assert says in message
    assert name in message
    assert len(message) < 400


def test_a_cell_may_be_longer_than_pythons_csv_reader_likes(tmp_path: Path) -> None:
    file = write_delimited(tmp_path / "a.csv", [["text", "label"], ["x" * 400_000, "1"]])
    assert len(table(file).texts[0]) == 400_000


def test_no_more_rows_are_looked_at_than_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"text": "a"}\n\n{"text": "b"}\nno json\n')
    assert table(file, Columns("text"), max_rows=2).texts == ["a", "b"]
    taken = rows_of_file("", str(file), "json", named=False)
    assert next(taken)[1] == {"text": "a"}


def test_a_column_may_begin_late_but_not_never(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}"} for i in range(2500)]
    file = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, [*rows, {"text": "last", "label": "x"}])))
    assert table(file).classes == ("x",)
    file = write(tmp_path / "b.jsonl", "\n".join(map(json.dumps, rows)))
    assert refused(file).endswith("no column label; there are: text")


def test_text_files_are_unpacked_too(tmp_path: Path) -> None:
    write(tmp_path / "a.txt.gz", gzip.compress(b"one\n\ntwo\n"))
    assert read_lines("", str(tmp_path / "a.txt.gz")) == (["one", "two"], 1)


# ---- sets and addresses


def test_an_address_is_read_as_a_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)  # offline, nothing is fetched from memory either
    with fsspec.open("memory://somewhere/a.csv", "wb") as file:
        file.write(b"text,label\n1990-07-04,None\n")
    streamed = open_rows("data.train", "csv", None, "memory://somewhere/a.csv", "train", True)
    fetched = open_rows("data.train", "csv", None, "memory://somewhere/a.csv", "train", False)
    for rows in (streamed, fetched):
        found = read_table(rows, LABELLED)
        assert (found.texts, found.labels) == (["1990-07-04"], ["None"])


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["train.jsonl", "train.csv", "train.tsv"])
def test_the_files_of_a_folder_are_read_as_files_are(name: str, streaming: bool, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    texts = ["1990-07-04", "007", "None", "1.50"]
    if name == "train.jsonl":
        lines = [json.dumps({"text": text, "label": text}) for text in texts]
        write(tmp_path / "set" / name, "\n".join(lines))
    else:
        rows = [["text", "label"], *([text, text] for text in texts)]
        write_delimited(tmp_path / "set" / name, rows, "," if name == "train.csv" else "\t")
    rows = open_rows("data.train", str(tmp_path / "set"), None, None, "train", streaming)
    found = read_table(rows, LABELLED)
    assert (found.texts, found.labels) == (texts, texts)


def test_classes_that_a_folder_declares_are_its_classes(tmp_path: Path) -> None:
    card = "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n"
    card += "      class_label:\n        names:\n          '0': bad\n          '1': good\n---\n"
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "README.md", card)
    write(tmp_path / "set" / "train.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n')
    found = read_table(open_rows("data.train", str(tmp_path / "set"), None, None, "train", False), LABELLED)
    assert (found.labels, found.classes) == (["good", "bad"], ("bad", "good"))


def test_a_date_that_a_reader_guessed_is_refused(tmp_path: Path) -> None:
    """Where a card says how a file is read, the `datasets` library reads it, which makes times of texts."""
    (tmp_path / "set").mkdir()
    card = "---\nconfigs:\n- config_name: default\n  data_files: train.jsonl\n  chunksize: 1000000\n---\n"
    write(tmp_path / "set" / "README.md", card)
    write(tmp_path / "set" / "train.jsonl", '{"text": "1990-07-04T10:00:00"}\n' * 3)
    rows = open_rows("data.train", str(tmp_path / "set"), None, None, "train", False)
    with pytest.raises(UserError, match=r"row 1: column text holds .*looks like a date was read as one"):
        read_table(rows, Columns("text"))


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv"])
def test_slices_and_sums_of_splits_are_read_as_files_are(ending: str, tmp_path: Path) -> None:
    folder, delimiter = tmp_path / "set", "," if ending == "csv" else "\t"
    folder.mkdir()
    texts = {"train": ["007", "1.50", "None", "1990-07-04T10:00:00"], "test": ["1e5", '5" x', '6" y']}
    for part, cells in texts.items():
        if ending == "jsonl":
            write(folder / f"{part}.jsonl", "\n".join(json.dumps({"text": cell}) for cell in cells))
        else:
            write_delimited(folder / f"{part}.{ending}", [["text", "n"], *([cell, "1"] for cell in cells)], delimiter)
    wanted = {
        "train[:2]": ["007", "1.50"],
        "train[-50%:]": ["None", "1990-07-04T10:00:00"],
        "test+train[1:2]": [*texts["test"], "1.50"],
    }
    for split, expected in wanted.items():
        rows = open_rows("data.train", str(folder), None, split, "train", False)
        assert read_table(rows, Columns("text")).texts == expected
    with pytest.raises(UserError, match=r"^data\.train: .*"):
        open_rows("data.train", str(folder), None, "train[:x]", "train", False)


@pytest.mark.parametrize("streaming", [False, True])
def test_cells_are_texts_where_a_card_says_how_they_are_parted(streaming: bool, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    card = '---\nconfigs:\n- config_name: default\n  data_files: train.csv\n  sep: ";"\n---\n'
    write(tmp_path / "set" / "README.md", card)
    write(tmp_path / "set" / "train.csv", "text;label\n007;1.50\n1e5;NA\n")
    rows = open_rows("data.train", str(tmp_path / "set"), None, None, "train", streaming)
    found = read_table(rows, LABELLED)
    assert (found.texts, found.labels) == (["007", "1e5"], ["1.50", "NA"])


def test_a_stream_that_declares_no_columns_is_checked_by_its_first_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = datasets.IterableDataset.from_generator(lambda: iter([{"text": "a", "n": 1}]))
    assert stream.column_names is None
    monkeypatch.setattr(datasets, "load_dataset", lambda **_: stream)
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_: None)
    rows = open_rows("here", "some/set", None, None, "train", True)
    assert read_table(rows, Columns("text")).texts == ["a"]
    with pytest.raises(UserError, match=r"^here: no column txt; there are: text, n$"):
        read_table(rows, Columns("txt"))


def test_ordinary_quotes_of_a_tsv_file_merge_no_rows(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tsv", 'text\tn\n"She came\t1\nand left"\t2\nlast\t3\n')
    rows = open_rows("data.train", "tsv", None, str(file), "train", False)
    assert read_table(rows, Columns("text")).texts == ['"She came', 'and left"', "last"]
    write(file, 'text\tn\n"She came\nand ""left"""\t2\nlast\t3\n')
    assert read_table(rows, Columns("text")).texts == ['She came\nand "left"', "last"]
    write(file, 'text\n"She came\nand left"\nlast\n')
    with pytest.raises(UserError, match=r"or be the text's own; write it as \.csv or \.jsonl$"):
        read_table(rows, Columns("text"))
    write(file, 'text\n"She came"\nlast\n')
    assert read_table(rows, Columns("text")).texts == ["She came", "last"]


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet_files_without_rows_are_passed_over(streaming: bool, tmp_path: Path) -> None:
    full, empty = pyarrow.table({"text": ["a", "b"]}), pyarrow.table({"text": pyarrow.array([], pyarrow.null())})
    for name, rows in (("p-0", empty), ("p-1", full), ("p-2", full.slice(0, 0))):
        pyarrow.parquet.write_table(rows, tmp_path / f"{name}.parquet")

    def rows_of(name: str) -> list[str]:
        return read_table(
            open_rows("data.train", "parquet", None, str(tmp_path / name), "train", streaming), Columns("text")
        ).texts

    assert rows_of("p-*.parquet") == ["a", "b"]
    with pytest.raises(UserError, match=r"^data\.train: no row in it$"):
        rows_of("p-0.parquet")
    (tmp_path / "p-1.parquet").rename(tmp_path / "a[1].parquet")
    assert rows_of("a[1].parquet") == ["a", "b"]


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet_files_of_other_columns_are_refused_by_name(streaming: bool, tmp_path: Path) -> None:
    a, b = tmp_path / "a.parquet", tmp_path / "b.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "label": [1]}), a)
    files = [str(a), str(b)]

    def refused_with(columns: dict[str, list[Any]]) -> str:
        pyarrow.parquet.write_table(pyarrow.table(columns), b)
        with pytest.raises(UserError) as error:
            read_table(open_rows("data.train", "parquet", None, files, "train", streaming), Columns("text"))
        return str(error.value)

    mend = "parquet files that are read together need the same columns: write them anew, or as .jsonl"
    found = refused_with({"text": ["b"], "source": ["c"], "url": ["d"]})
    assert found == f"data.train: only one of {a} and {b} has the columns label, source, url; {mend}"
    if not streaming:  # a stream converts its rows as they arrive
        found = refused_with({"label": ["high"], "text": ["b"]})
        assert found.startswith("data.train: cannot be read (")
        assert found.endswith(f"): column label is int64 in {a} and string in {b}; {mend}")
    # Another order, and values that can be converted, are no difference.
    pyarrow.parquet.write_table(pyarrow.table({"label": ["2"], "text": ["b"]}), b)
    rows = open_rows("data.train", "parquet", None, files, "train", streaming)
    assert (read_table(rows, LABELLED).texts, read_table(rows, LABELLED).labels) == (["a", "b"], ["1", "2"])


def test_a_folder_that_the_datasets_library_takes_for_a_pattern_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set[1]").mkdir()
    write(tmp_path / "set[1]" / "train.jsonl", '{"text": "a"}')
    with pytest.raises(UserError, match=r"takes \[, \* and \? for a pattern; rename the folder"):
        open_rows("data.train", str(tmp_path / "set[1]"), None, None, "train", False)


# ---- JSON out

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.thorough
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_a_row_of_json_is_handed_on_as_it_stands(row: dict[str, Any]) -> None:
    line = json.dumps(row, ensure_ascii=False)
    with fsspec.open("memory://row.json", "wb") as file:
        file.write(line.encode())
    ((_, read),) = rows_of_file("", "memory://row.json", "json", named=False)
    assert read is not None
    assert as_json(read) == line


def test_what_json_has_not_is_refused_or_nothing() -> None:
    assert as_json([float("nan"), float("inf"), Decimal("1.50"), datetime.date(2024, 5, 1)]) == (
        '[null, null, 1.50, "2024-05-01"]'
    )
    with pytest.raises(ValueError, match="it holds b'x', which JSON has not"):
        as_json({"a": [b"x"]})
    assert shown(b"x") == "b'x'"
    assert shown("x" * 99) == '"' + "x" * 79 + "…"
