"""`gptgan init`: the config that it writes suits the file, and trains as it stands."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tiny import write_corpus

from gptgan_jax.cli import main
from gptgan_jax.config import Config
from gptgan_jax.config.files import load_config
from gptgan_jax.data.config import HfData
from gptgan_jax.workflows.preview import preview

SUBJECTS, VERBS = ("cats", "dogs", "birds", "mice", "cows"), ("run", "sleep", "sing", "eat", "hide")
DRAWN = random.Random(0)


def sentence() -> str:
    return " ".join(DRAWN.choice(SUBJECTS if i % 2 == 0 else VERBS) for i in range(DRAWN.randint(3, 7)))


def words_of_their_own(i: int) -> str:
    return " ".join("".join(DRAWN.choice("abcdefghij") for _ in range(8)) for _ in range(4 + i % 3))


LINES = "\n".join(sentence() for _ in range(200))
CHINESE = "\n".join("".join(DRAWN.choice("春夏秋冬山水風月花鳥雲雨") for _ in range(7)) for _ in range(200))
PARAGRAPHS = "\n\n".join("\n".join(sentence() for _ in range(3)) for _ in range(100))
UNKNOWN = "\n".join(words_of_their_own(i) for i in range(200))
QUESTIONS = "\n".join(json.dumps({"id": i, "question": sentence(), "answer": sentence()}) for i in range(200))
REVIEWS = "label,note,review\n" + "\n".join(f"{i % 2},x,{sentence()}" for i in range(200))
PAIRS = "\n".join(
    json.dumps({"prompt_id": f"{i:x}", "prompt": sentence(), "chosen": sentence(), "rejected": sentence()})
    for i in range(200)
)
IDS = "\n".join(json.dumps({"ids": [DRAWN.randrange(9) for _ in range(DRAWN.randint(3, 7))]}) for _ in range(200))
TALKS = "\n".join(
    json.dumps({"messages": [{"role": "user", "content": sentence()}, {"role": "assistant", "content": sentence()}]})
    for _ in range(200)
)


def made(folder: Path, name: str, content: str) -> Config:
    (folder / name).write_text(content, encoding="utf-8")
    assert main(["init", str(folder / name), "--out", str(folder / "mine.yaml")]) == 0
    return load_config(folder / "mine.yaml", ["--runs_folder", str(folder / "runs")])


@pytest.mark.parametrize("line_break", ["\n", "\r", "\x85", "\u2028"])
def test_a_column_s_name_sets_no_key(line_break: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Its line breaks stay in the comment that names it; the file may be somebody else's."""
    injected = f"note{line_break}seed: 77{line_break}checkpoints: {{folder: /elsewhere}}{line_break}"
    rows = [{"text": sentence(), injected: sentence()[:9]} for _ in range(200)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    out = tmp_path / "mine.yaml"
    assert main(["init", str(tmp_path / "rows.jsonl"), "--out", str(out), "--text-column", injected]) == 0
    config = load_config(out, [])
    assert isinstance(config.data, HfData)
    assert config.data.text_column == injected
    assert (config.seed, config.checkpoints) == (Config().seed, Config().checkpoints)
    assert injected not in capsys.readouterr().out
    comments = [
        line for line in out.read_text(encoding="utf-8").split("\n") if "seed: 77" in line and "is learned" in line
    ]
    assert len(comments) == 1
    assert comments[0].startswith("# note\\")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"instruction": "{}", "input": "{}", "output": "{}"}, "input: not read;"),
        ({"instruction": "{}", "history": [["q", "a"]], "output": "{}"}, "history: not read;"),
        ({"instruction": "{}", "input": "", "history": [], "output": "{}"}, None),
        (None, "system: the system turn of"),
    ],
)
def test_columns_beside_a_prompt_are_told_of(
    row: dict[str, Any] | None, says: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(talk) | {"system": "s"} for talk in TALKS.splitlines()]
    if row is not None:
        rows = [{name: sentence() if value == "{}" else value for name, value in row.items()} for _ in range(200)]
    made(tmp_path, "rows.jsonl", "\n".join(map(json.dumps, rows)))
    told = capsys.readouterr()
    found = [line for line in (told.out + told.err).splitlines() if "not read;" in line or "the system turn of" in line]
    assert found == [] if says is None else says in found[0]


@pytest.mark.parametrize(
    ("name", "content", "data", "tokenizer"),
    [
        ("lines.txt", LINES, {"kind": "text", "document": "line"}, "word"),
        ("poems.txt", CHINESE, {"kind": "text", "document": "line"}, "character"),
        ("prose.txt", PARAGRAPHS, {"kind": "text", "document": "paragraph"}, "bpe"),
        ("names.txt", UNKNOWN, {"kind": "text"}, "bpe"),
        ("qa.jsonl", QUESTIONS, {"kind": "hf", "prompt_column": "question", "text_column": "answer"}, "word"),
        ("rated.csv", REVIEWS, {"kind": "hf", "prompt_column": None, "text_column": "review"}, "word"),
        ("talks.jsonl", TALKS, {"kind": "hf", "text_column": "messages"}, "word"),
        ("pairs.jsonl", PAIRS, {"prompt_column": "prompt", "text_column": "chosen"}, "word"),
        ("ids.jsonl", IDS, {"text_column": "ids"}, "ids"),
    ],
)
def test_the_config_suits_the_file_and_would_train(
    name: str, content: str, data: dict[str, Any], tokenizer: str, tmp_path: Path
) -> None:
    config = made(tmp_path, name, content)
    assert {key: getattr(config.data, key) for key in data} == data
    assert config.tokenizer.kind == tokenizer
    said: list[str] = []
    lines = preview(config, said.append)
    train = next(line for line in lines if line.startswith("train: "))
    cut = float(train.split("; ")[1].split("%")[0])
    assert cut < 2, train
    assert not [line for line in said if line.startswith("ALARM")]


def test_what_is_there_is_not_overwritten_and_what_is_no_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = write_corpus(tmp_path / "corpus.txt")
    assert main(["init", str(corpus)]) == 0
    written = (tmp_path / "corpus.yaml").read_bytes()
    (tmp_path / "few.txt").write_text("one line\nand another\n")
    (tmp_path / "numbers.jsonl").write_text('{"a": 1}\n' * 50)
    (tmp_path / "open.csv").write_text("left,right\n" + "\n".join(f"{sentence()} {i},{sentence()}" for i in range(99)))
    (tmp_path / "semi.csv").write_text("text;label\n" + f"{sentence()}, {sentence()};1\n" * 50)
    capsys.readouterr()
    for file, says in (
        ("corpus.txt", "corpus.yaml exists; give another name with --out"),
        ("nowhere.txt", "no such file"),
        ("few.txt", "few.txt: "),
        ("numbers.jsonl", "none of its columns a holds texts to learn"),
        ("open.csv", "which of its columns left, right is the text to learn? Give --text-column NAME"),
        ("semi.csv", 'its header "text;label" is one column, and ";" seems to part several'),
    ):
        assert main(["init", file]) == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1
    assert (tmp_path / "corpus.yaml").read_bytes() == written
    assert not (tmp_path / "few.yaml").exists()


def test_columns_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "open.csv", tmp_path / "mine.yaml"
    file.write_text("left,right\n" + "\n".join(f"{sentence()} {i},{sentence()}" for i in range(99)))
    command = ["init", str(file), "--out", str(out)]
    assert main([*command, "--text-column", "middle"]) == 2
    assert "no column middle; there are: left, right" in capsys.readouterr().err
    assert main([*command, "--text-column", "right", "--prompt-column", "left"]) == 0
    data: Any = load_config(out, []).data
    assert (data.text_column, data.prompt_column) == ("right", "left")


def test_steps_count_windows_of_long_texts_and_a_comment_says_so(tmp_path: Path) -> None:
    long, short = (
        "\n".join(" ".join(DRAWN.choice(SUBJECTS) for _ in range(words)) for _ in range(2000)) for words in (700, 250)
    )
    config = made(tmp_path, "long.txt", long)
    text = (tmp_path / "mine.yaml").read_text()
    assert "max_length: 256  # tokens; 100.0% of texts are longer, and split into windows\n" in text
    assert not config.objective.residual_candidates  # which whole texts alone can be resampled by
    (tmp_path / "mine.yaml").unlink()
    whole = made(tmp_path, "short.txt", short)
    assert "max_length: 251  # tokens; no text is longer\n" in (tmp_path / "mine.yaml").read_text()
    assert whole.objective.residual_candidates == 8
    assert config.steps("likelihood") == pytest.approx(3 * whole.steps("likelihood"), rel=0.1)


def test_a_few_long_lines_do_not_make_every_batch_wide(tmp_path: Path) -> None:
    config = made(tmp_path, "lines.txt", LINES + "\n" + " ".join(SUBJECTS * 20))
    assert config.data.max_length == 8
    assert "longer, and split into windows" in (tmp_path / "mine.yaml").read_text()


@pytest.mark.thorough
@pytest.mark.cases(1)
@pytest.mark.parametrize(("name", "content"), [("lines.txt", LINES), ("qa.jsonl", QUESTIONS)])
def test_it_trains_to_its_end(name: str, content: str, tmp_path: Path) -> None:
    made(tmp_path, name, content)
    short = ["--likelihood.steps", "60", "--warmup.steps", "60", "--adversarial.steps", "12"]
    short += ["--evaluation.every", "60", "--evaluation.samples", "40", "--evaluation.judge.steps", "4"]
    assert main(["train", str(tmp_path / "mine.yaml"), "--runs_folder", str(tmp_path / "runs"), *short]) == 0
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
