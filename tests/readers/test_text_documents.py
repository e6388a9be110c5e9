"""What a document of a text file is, and which files a name stands for."""

import bz2
import gzip
import lzma
import shutil
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptgan_jax.data.config import TextData
from gptgan_jax.data.corpora import load_corpus
from gptgan_jax.errors import UserError
from gptgan_jax.readers.documents import Document, read_documents, stream_documents

CODE = "\n\n    def f(x):\n        return x\n\n\n    def g():\n\n        pass\n\n"


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_lines_lose_the_white_space_around_them_and_blank_ones_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", CODE)
    assert read_documents("data.train", path, "line") == (["def f(x):", "return x", "def g():", "pass"], 6)


def test_paragraphs_keep_their_lines_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.py", CODE)
    paragraphs, _ = read_documents("data.train", path, "paragraph")
    assert paragraphs == ["    def f(x):\n        return x", "    def g():", "        pass"]


@pytest.mark.parametrize("document", ["line", "paragraph", "file"])
def test_a_file_of_windows_has_the_documents_of_any_other(tmp_path: Path, document: Document) -> None:
    (tmp_path / "crlf.txt").write_bytes(CODE.replace("\n", "\r\n").encode())
    plain = read_documents("data.train", write(tmp_path / "a.txt", CODE), document)[0]
    assert read_documents("data.train", str(tmp_path / "crlf.txt"), document)[0] == plain


def test_a_file_keeps_its_indentation_and_the_blank_lines_within(tmp_path: Path) -> None:
    path = write(tmp_path / "a.py", CODE)
    assert read_documents("data.train", path, "file")[0] == [
        "    def f(x):\n        return x\n\n\n    def g():\n\n        pass"
    ]


@given(st.lists(st.text(st.sampled_from("ab \t"), min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_paragraphs_are_what_was_joined_by_blank_lines(paragraphs: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.txt", "\n \n\n".join(paragraphs) + "\n")
        assert list(stream_documents("data.train", path, "paragraph")) == paragraphs


@pytest.mark.parametrize("document", ["line", "paragraph", "file"])
@pytest.mark.parametrize("ending", ["gz", "xz", "zst"])
def test_a_compressed_file_is_read_like_the_file(tmp_path: Path, ending: str, document: str) -> None:
    plain = write(tmp_path / "a.txt", CODE + "caf\u00e9\n")
    packed = tmp_path / f"a.txt.{ending}"
    raw = Path(plain).read_bytes()
    if ending == "zst":
        with pyarrow.CompressedOutputStream(str(packed), "zstd") as out:
            out.write(raw)
    else:
        packed.write_bytes({"gz": gzip.compress, "xz": lzma.compress}[ending](raw))
    assert read_documents("data.train", str(packed), document) == read_documents("data.train", plain, document)  # type: ignore[arg-type]


def test_compressed_files_may_be_empty_and_zst_may_begin_with_what_is_skipped(tmp_path: Path) -> None:
    for ending, content in (("gz", gzip.compress(b"")), ("bz2", bz2.compress(b"")), ("xz", lzma.compress(b""))):
        (tmp_path / f"a.{ending}").write_bytes(content)
    packed = pyarrow.compress(b"one\ntwo\n", "zstd", asbytes=True)
    (tmp_path / "a.zst").write_bytes(b"\x50\x2a\x4d\x18\x04\x00\x00\x00note" + packed)
    assert read_documents("data.train", str(tmp_path / "*"), "line")[0] == ["one", "two"]


def test_a_folder_stands_for_all_files_in_it_and_a_list_for_each_of_its_names(tmp_path: Path) -> None:
    write(tmp_path / "books" / "b.txt", "two\n")
    write(tmp_path / "books" / "a.txt", "one\n")
    write(tmp_path / "books" / "more" / "c.txt", "three\n")
    write(tmp_path / "books" / ".hidden", "no\n")
    single = write(tmp_path / "z.txt", "zero\n")
    folder = str(tmp_path / "books")
    assert read_documents("data.train", folder, "file")[0] == ["one", "two", "three"]
    assert read_documents("data.train", [single, folder], "file")[0] == ["zero", "one", "two", "three"]
    more = [write(tmp_path / "more" / f"{i}.txt", f"text {i}\n") for i in range(40)]
    corpus = load_corpus(TextData(train=(single, folder, *more), document="file", valid_fraction=0.3))
    assert corpus.test is not None
    texts = [*corpus.train.texts, *corpus.valid.texts, *corpus.test.texts]
    assert sorted(texts) == sorted(["one", "three", "two", "zero", *(f"text {i}" for i in range(40))])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("rows.jsonl", '{"text": "a"}\n', "holds rows (json), not text; set data.kind hf"),
        ("rows.csv.gz", "", "holds rows (csv), not text"),
        ("blank.txt", "\n \n", "nothing but blank lines"),
        ("folder/.hidden", "a\n", "no file in the folder"),
    ],
)
def test_what_holds_no_documents_is_refused_in_a_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    write(tmp_path / name, text)
    with pytest.raises(UserError, match=r"data\.train") as error:
        read_documents("data.train", str(tmp_path / name.split("/")[0]), "paragraph")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_named_twice_is_read_once_and_a_note_says_so(tmp_path: Path) -> None:
    one, other = (write(tmp_path / name, f"{name}\n" * 20) for name in ("a.txt", "b.txt"))
    (tmp_path / "again.txt").symlink_to(one)
    names = (one, str(tmp_path / "*.txt"))
    assert read_documents("data.train", names, "line")[0] == ["a.txt"] * 20 + ["b.txt"] * 20
    corpus = load_corpus(TextData(train=names, valid=other))
    assert "data.train: 2 files are named again by another name or glob, and read once" in corpus.notes
    assert not any("named again" in note for note in load_corpus(TextData(train=one, valid=other)).notes)


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_an_archive_is_refused(tmp_path: Path, ending: str) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.txt", "a line\n" * 200)
    form = {"tar": "tar", "tar.gz": "gztar", "tar.bz2": "bztar", "tar.xz": "xztar", "zip": "zip"}[ending]
    shutil.make_archive(str(tmp_path / "a"), form, tmp_path / "in")
    with pytest.raises(UserError, match=r"an archive of files; unpack it, and name its files or their folder$"):
        read_documents("data.train", str(tmp_path / f"a.{ending}"), "line")


@pytest.mark.parametrize("document", ["line", "paragraph", "file"])
def test_a_file_of_old_macs_has_the_documents_of_any_other(tmp_path: Path, document: Document) -> None:
    (tmp_path / "cr.txt").write_bytes(CODE.replace("\n", "\r").encode())
    plain = read_documents("data.train", write(tmp_path / "a.txt", CODE), document)[0]
    assert read_documents("data.train", str(tmp_path / "cr.txt"), document)[0] == plain
    write(tmp_path / "b.txt", "50 %\r100 %\nnext\n")  # as a progress bar writes it
    assert read_documents("data.train", str(tmp_path / "b.txt"), "line")[0] == ["50 %\r100 %", "next"]
