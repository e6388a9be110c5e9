"""The text of a mixture: each source is read, and held out, as it would be alone; what can't be mixed is one line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import write_corpus

from gptgan_jax.cli import main
from gptgan_jax.config.checking import config_from
from gptgan_jax.config.files import load_config, to_yaml
from gptgan_jax.data.config import HfData, MixtureData, TextData
from gptgan_jax.data.corpora import load_corpus
from gptgan_jax.errors import UserError


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    books = write_corpus(tmp_path / "books.txt")
    web = tmp_path / "web.jsonl"
    web.write_text("".join(json.dumps({"text": f"page {i} of many", "q": f"what is {i}"}) + "\n" for i in range(80)))
    return str(books), str(web)


def mixture(files: Sequence[str], **more: Any) -> MixtureData:
    books, web = files
    sources: Any = (
        {"kind": "text", "train": books, "weight": 3},
        {"kind": "hf", "train": web, "weight": 1, "source": "pages"},
    )
    return MixtureData(**({"sources": sources} | more))


def test_each_source_is_what_it_would_be_alone(files: tuple[str, str]) -> None:
    data = mixture(files, seed=4, valid_fraction=0.1)
    corpus = load_corpus(data)
    alone = [
        load_corpus(TextData(train=files[0], seed=4, valid_fraction=0.1)),
        load_corpus(HfData(train=files[1], seed=4, valid_fraction=0.1)),
    ]
    assert [(part.name, part.weight) for part in corpus.parts] == [("books", 0.75), ("pages", 0.25)]
    for which in ("train", "valid", "test"):
        texts = [list(getattr(one, which).texts) for one in alone]
        assert [list(getattr(part.corpus, which).texts) for part in corpus.parts] == texts
        assert list(getattr(corpus, which).texts) == texts[0] + texts[1]
    assert any("documents of data.sources.books.train" in note for note in corpus.notes)


def test_what_a_source_holds_out_and_another_trains_on_is_an_alarm(files: tuple[str, str], tmp_path: Path) -> None:
    copied = tmp_path / "copied.txt"
    copied.write_text("".join(f"page {i} of many\n" for i in range(40)))
    data = MixtureData(
        sources=(
            {"kind": "text", "train": str(copied), "weight": 1},  # type: ignore[arg-type]
            {"kind": "hf", "train": files[1], "weight": 1, "valid": files[1], "source": "pages"},  # type: ignore[arg-type]
        )
    )
    notes = load_corpus(data).notes
    assert any(note.startswith("ALARM: data.valid shares") and "of all sources" in note for note in notes)
    assert not any("of all sources" in note for note in load_corpus(mixture(files)).notes)


def test_a_budget_of_tokens_is_shared_by_the_weights_and_stores_lie_side_by_side(files: tuple[str, str]) -> None:
    first, second = mixture(files, store="s", max_tokens=1001).parts()
    assert (first.store, second.store) == ("s/books", "s/pages")
    assert (first.max_tokens, second.max_tokens) == (751, 251)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ({"kind": "text", "train": "a/books/*.txt"}, "books"),
        ({"kind": "text", "train": "news.v2.txt.zst"}, "news.v2"),
        ({"kind": "text", "train": ["b/x.txt", "c.txt"]}, "x"),
        ({"kind": "hf", "path": "allenai/c4", "name": "en"}, "c4-en"),
        ({"kind": "hf", "train": "rows.jsonl"}, "rows"),
        ({"kind": "text", "train": "a.txt", "source": "mine"}, "mine"),
    ],
)
def test_a_source_is_called_after_what_it_reads(source: Any, name: str) -> None:
    assert MixtureData(sources=({**source, "weight": 1},)).names == (name,)


def write(folder: Path, sources: Any, **more: Any) -> Path:
    path = folder / "mix.yaml"
    path.write_text(yaml.safe_dump({"data": {"sources": sources, **more}, "likelihood": {"packing": "concatenate"}}))
    return path


def test_a_config_is_read_back_as_it_was_and_its_paths_are_whole(files: tuple[str, str], tmp_path: Path) -> None:
    path = write(tmp_path, [{"kind": "text", "train": files[0], "weight": 2}])
    config = load_config(path)
    assert isinstance(config.data, MixtureData), "sources alone make it one"
    assert config_from(yaml.safe_load(to_yaml(config))) == config
    relative = load_config(path, ["--data.sources.0.train", "a.txt", "--data.store", "tokens"]).data
    assert isinstance(relative, MixtureData)
    assert relative.sources[0].train == str(Path("a.txt").absolute())
    assert relative.store == str(Path("tokens").absolute())


def test_keys_of_a_source_are_set_by_its_number_or_its_name(files: tuple[str, str], tmp_path: Path) -> None:
    sources = [
        {"kind": "text", "train": files[0], "weight": 1, "source": "my-books"},
        {"kind": "text", "train": files[0], "weight": 1, "source": "others"},
    ]
    path = write(tmp_path, sources)
    data = load_config(path, ["--data.sources.0.weight", "5", "--data.sources.my-books.document", "paragraph"]).data
    assert isinstance(data, MixtureData)
    assert (data.sources[0].weight, data.sources[0].document) == (5, "paragraph")  # type: ignore[union-attr]


BOOKS = {"kind": "text", "train": "b.txt", "weight": 1}
BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no source": ([], {}, "data.sources names no source of text; give a list"),
    "not a list": (3, {}, "data.sources should be a list of sections"),
    "not of sections": (["b.txt"], {}, "data.sources should be a list of sections"),
    "no kind": ([{"train": "b.txt", "weight": 1}], {}, "data.sources.0.kind is None; choose one of text, hf"),
    "no weight": ([{"kind": "text", "train": "b.txt"}], {}, "data.sources.0.weight: field required"),
    "weight 0": ([BOOKS | {"weight": 0}], {}, "data.sources.0.weight: should be greater than 0, not 0"),
    "weight negative": ([BOOKS, BOOKS | {"weight": -1}], {}, "data.sources.1.weight: should be greater than 0, not -1"),
    "weight too small": ([BOOKS, BOOKS | {"source": "c", "weight": 1e-6}], {}, "the weight of c is 1e-06 of all"),
    "oracle": ([{"kind": "oracle", "weight": 1}], {}, "it generates token ids, not text; choose one of text, hf"),
    "grammar": ([{"kind": "grammar", "weight": 1}], {}, "the probability of every text, which a mixture does not have"),
    "mixture": ([{"kind": "mixture", "weight": 1}], {}, "mixtures can't be nested"),
    "length": ([BOOKS | {"max_length": 9}], {}, "it is a key of the whole mixture; set data.max_length"),
    "store": ([BOOKS | {"store": "s"}], {}, "it is a key of the whole mixture; set data.store"),
    "name of a file": ([BOOKS | {"name": "x"}], {}, "it is one of data.sources.0.kind hf, and this is text"),
    "labels": ([{"kind": "hf", "label_column": "l", "weight": 1}], {}, "a source of a mixture has no labels"),
    "one name": ([BOOKS, BOOKS], {}, "2 are called 'b'; give each another name by its key source"),
    "a folder": ([BOOKS | {"source": "../b"}], {}, "'../b' can't be the name of one"),
    "a number": ([BOOKS | {"source": "7"}], {}, "'7' can't be the name of one"),
    "the tokenizer's": ([BOOKS | {"source": "tokenizer"}], {}, "'tokenizer' can't be the name of one"),
    "prompts and none": (
        [BOOKS, {"kind": "hf", "train": "q.jsonl", "prompt_column": "q", "weight": 1}],
        {},
        "q has prompts and b has none; give every source a prompt_column, or none",
    ),
    "another kind": ([BOOKS], {"kind": "text"}, "it is one of data.kind mixture, and this is text; set the kind too"),
    "tokens without a store": ([BOOKS], {"max_tokens": 5}, "data.max_tokens ends a token store: set data.store"),
    "a group in a store": (
        [{"kind": "hf", "train": "q.jsonl", "group_column": "g", "weight": 1}],
        {"store": "s"},
        "drop group_column of the source q",
    ),
}


@pytest.mark.parametrize(("sources", "more", "says"), BAD.values(), ids=BAD)
def test_what_can_not_be_mixed_is_one_line(
    tmp_path: Path, sources: Any, more: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, sources, **more)
    assert main(["train", str(path)]) == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--data.sources.3.weight", "data.sources.3: there is none; give one's number or its key source: 0 to 0"),
        ("--data.sources.weight", "data.sources is a list; name a key of one, such as data.sources.0.weight"),
        ("--data.sources.0.wieght", "did you mean 'data.sources.0.weight'?"),
    ],
)
def test_an_override_of_no_source_is_one_line(tmp_path: Path, argument: str, says: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        load_config(write(tmp_path, [BOOKS]), [argument, "2"])
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"kind": "text", "weight": 1, "source": "c"}, "data.sources.c.train: no training text named"),
        ({"kind": "text", "train": "missing.txt", "weight": 1}, "data.sources.missing.train: "),
        ({"kind": "hf", "train": "WEB", "text_column": "body", "weight": 1}, "no column body"),
        ({"kind": "hf", "train": "WEB", "streaming": True, "weight": 1}, "needs data.sources.web.max_documents"),
    ],
)
def test_what_is_wrong_with_a_source_names_it(files: tuple[str, str], source: dict[str, Any], says: str) -> None:
    source = {name: files[1] if value == "WEB" else value for name, value in source.items()}
    books: Any = {"kind": "text", "train": files[0], "weight": 1}
    with pytest.raises(UserError, match=r"data\.sources\.") as error:
        load_corpus(MixtureData(sources=(books, source)))  # type: ignore[arg-type]
    assert says in str(error.value)
