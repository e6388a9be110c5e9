"""Files of any toolkit: measured by parts of the references that share no text, or refused in one line."""

import csv
import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from gptgan_jax.cli import main
from gptgan_jax.config import JudgeConfig
from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.tokenizers import BpeTokenizer, CharacterTokenizer, WordTokenizer, fit_tokenizer
from gptgan_jax.evaluation import without_run
from gptgan_jax.evaluation.results import Evaluation, Score
from gptgan_jax.evaluation.without_run import evaluate_files
from gptgan_jax.metrics.estimates import REAL
from gptgan_jax.tokenization.units import UnitName


@pytest.fixture(autouse=True)
def _small_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(without_run, "JudgeConfig", lambda: JudgeConfig(layers=1, width=8, steps=2))


@pytest.fixture
def _no_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what needs trained models, which takes most of the time."""
    monkeypatch.setattr(without_run, "judge_from", lambda *arguments: None)
    monkeypatch.setattr(without_run, "judge_figures", lambda *arguments: [])


def sentences(count: int, seed: int = 0) -> list[str]:
    words = random.Random(seed)
    return [
        " ".join(
            words.choice(["the", "a", "red", "cat", "dog", "runs", "sits", "."]) for _ in range(words.randrange(2, 8))
        )
        for _ in range(count)
    ]


def written(path: Path, texts: list[str]) -> Path:
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def silently(line: str) -> None:
    """Takes no notice of a line."""


def scored(samples: Path, references: Path, training: Path | None = None) -> Evaluation:
    return evaluate_files(samples, references, training, "language_model", 0, silently)


def row(evaluation: Evaluation, name: str) -> Score:
    return next(score for score in evaluation.scores if score.name == name)


def test_samples_of_the_references_own_source_score_like_real_text(tmp_path: Path) -> None:
    samples, references = (written(tmp_path / f"{i}.txt", sentences(300, i)) for i in (1, 2))
    evaluation = scored(samples, references)
    for name in ("length", "BLEU-2", "BLEU-3", "Self-BLEU-2", "distinct-2", "classifier accuracy"):
        figures = row(evaluation, name).values
        apart = abs(figures["samples"].value - figures[REAL].value)
        assert apart < 5 * np.hypot(figures["samples"].error, figures[REAL].error), name


@pytest.mark.thorough
def test_without_training_text_a_third_of_the_references_does_nothing_but_train_the_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = [f"the red cat {i}" for i in range(60)]
    learned: list[str] = []
    real = without_run.encode_split
    monkeypatch.setattr(
        without_run, "encode_split", lambda split, *rest: learned.append(list(split.texts)) or real(split, *rest)
    )
    seen: dict[str, set[str]] = {}
    measure = without_run.text_figures

    def noting(samples, ruler, drawn):
        seen.setdefault("references", set(ruler.references.texts))
        seen["real"] = set(samples.texts)
        return measure(samples, ruler, drawn)

    monkeypatch.setattr(without_run, "text_figures", noting)
    evaluation = scored(written(tmp_path / "s.txt", references[:30]), written(tmp_path / "r.txt", references))
    judge = set(learned[0])
    assert [len(part) for part in (judge, seen["references"], seen["real"])] == [20, 20, 20]
    assert len(judge | seen["references"] | seen["real"]) == 60
    assert "20 of the references" in row(evaluation, "LM score").signature


@pytest.mark.thorough
def test_with_training_text_copies_are_counted_and_the_judge_learns_from_it(tmp_path: Path) -> None:
    training = sentences(40, 3)
    samples = written(tmp_path / "s.txt", training[:10] + [f"cat {text}" for text in sentences(30, 4)])
    references = written(tmp_path / "r.txt", [f"a a {text}" for text in sentences(100, 5)])
    evaluation = scored(samples, references, written(tmp_path / "t.txt", training))
    assert row(evaluation, "copied from the training text").values["samples"].value == pytest.approx(10 / 40)
    longest = row(evaluation, "longest such run of all texts").values["samples"].value
    assert longest == max(len(text.split()) for text in training[:10]) + 1  # with the end of text
    assert "40 training texts" in row(evaluation, "LM score").signature


@pytest.mark.thorough
def test_references_that_are_training_text_are_refused_and_a_few_are_named(tmp_path: Path, capsys) -> None:
    training, own = sentences(100, 3), [f"the the {text}" for text in sentences(100, 6)]
    samples, seen = written(tmp_path / "s.txt", sentences(20, 4)), written(tmp_path / "t.txt", training)
    command = ["evaluate", "--samples", str(samples), "--training", str(seen), "--references"]
    assert main([*command, str(seen)]) == 2
    assert "100 % of its texts are in" in capsys.readouterr().err
    evaluation = scored(samples, written(tmp_path / "r.txt", own[:98] + training[:2]), seen)
    assert "2.0 % of the references are also in the training text." in evaluation.notes


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize(
    "samples", [["the red cat sits ."] * 40, ["the"] * 40, ["the cat"] * 2], ids=["same", "one", "two"]
)
def test_degenerate_samples_have_defined_values_or_none(samples: list[str], tmp_path: Path) -> None:
    references = written(tmp_path / "r.txt", sentences(150))
    evaluation = scored(written(tmp_path / "s.txt", samples), references)
    for score in evaluation.scores:
        for estimate in score.values.values():
            assert estimate.value is None or not np.isnan(estimate.value), score.name
            assert estimate.error is None or not np.isnan(estimate.error), score.name


def drawn(letters: str, count: int, seed: int, gap: str = "", shortest: int = 5, longest: int = 12) -> list[str]:
    r = random.Random(seed)
    return [gap.join(r.choices(letters, k=r.randint(shortest, longest))) for _ in range(count)]


UNSPACED = {
    "Chinese": "山水云月风花雪鸟江河松竹梅柳灯舟雨星霜桥，。",
    "Japanese": "あいうえおかきくけこ日月火水木カキク。",
    "Thai": "กขคงจชดตถทนบปผพมยรลวสหอะาิีุูเแโ",
    "DNA": "ACGT",
    "emoji": "😀😃😄😁😆😅🤣😂",
    "molecules": "CNOcno1()=",
}


@pytest.mark.usefixtures("_no_judge")
@pytest.mark.parametrize("name", UNSPACED)
def test_real_text_without_spaces_is_like_real_text_by_characters(name: str, tmp_path: Path) -> None:
    samples, references = (written(tmp_path / f"{i}.txt", drawn(UNSPACED[name], 300, i)) for i in (1, 2))
    evaluation = scored(samples, references)
    assert row(evaluation, "BLEU-2").values[REAL].value > 0.5
    assert row(evaluation, "BLEU-2").signature.endswith("100 references, characters, method1")
    assert row(evaluation, "length").values[REAL].value == pytest.approx(9.5, abs=0.6)  # with the end of text
    for figure in ("length", "BLEU-2", "BLEU-3", "Self-BLEU-2", "distinct-2"):
        values = row(evaluation, figure).values
        apart = abs(values["samples"].value - values[REAL].value)
        assert apart < 5 * np.hypot(values["samples"].error, values[REAL].error), figure
    assert "(--unit auto: the real text has no spaces" in " ".join(evaluation.notes)


@pytest.mark.usefixtures("_no_judge")
@pytest.mark.parametrize(
    ("letters", "gap", "unit"),
    [
        ("ابتثجحخدذرز", " ", "words"),
        ("山水云月", " ", "words"),
        ("абвгде", " ", "words"),
        ("山水云月", "", "characters"),
    ],
)
def test_the_references_say_which_unit_and_the_samples_do_not(
    letters: str, gap: str, unit: str, tmp_path: Path
) -> None:
    references = written(tmp_path / "r.txt", drawn(letters, 60, 1, gap))
    for other in ("", " "):
        samples = written(tmp_path / "s.txt", drawn(letters, 30, 2, other if unit == "characters" else gap))
        assert f"; {unit}" in row(scored(samples, references), "distinct-1").signature


@pytest.mark.usefixtures("_no_judge")
def test_the_unit_can_be_asked_for(tmp_path: Path, capsys) -> None:
    samples, references = (written(tmp_path / f"{i}.txt", sentences(60, i)) for i in (1, 2))
    by_character = evaluate_files(samples, references, None, "language_model", 0, silently, "character")
    texts = [text.replace(" ", "") for text in sentences(60, 1)][:20]
    assert row(by_character, "length").values["samples"].value == pytest.approx(np.mean([len(t) + 1 for t in texts]))
    command = ["evaluate", "--samples", str(samples), "--references", str(references), "--unit", "character"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "characters, method1" in printed
    assert "(--unit character)" in printed


@pytest.mark.usefixtures("_no_judge")
def test_blank_samples_are_scored_as_empty_texts_wherever_they_stand(tmp_path: Path) -> None:
    # Of 300 references 100 are real text, so the first 100 samples are scored; half of them are blank.
    texts, references = sentences(200, 1), written(tmp_path / "r.txt", sentences(300, 2))
    half = written(tmp_path / "s.txt", [line for text in texts for line in (text, " \t")])
    whole = written(tmp_path / "w.txt", texts[:50])
    evaluation, of_texts = scored(half, references), scored(whole, references)
    assert "200 of the 400 samples are blank: each is scored as an empty text." in evaluation.notes
    assert not any("blank" in note for note in of_texts.notes)
    for name, of_empty in (("BLEU-2", 0), ("length", 1)):
        mean = row(of_texts, name).values["samples"].value
        assert row(evaluation, name).values["samples"].value == pytest.approx((mean + of_empty) / 2)
    different = len(set(texts[:50])) + 1
    assert row(evaluation, "different texts").values["samples"].value == pytest.approx(different / 100)
    for name in ("length", "BLEU-2"):
        values = row(evaluation, name).values
        apart = abs(values["samples"].value - values[REAL].value)
        assert apart > 5 * np.hypot(values["samples"].error, values[REAL].error), name


@pytest.mark.thorough
def test_blank_samples_alone_at_the_beginning_have_defined_values(tmp_path: Path) -> None:
    references = written(tmp_path / "r.txt", sentences(90, 2))
    evaluation = scored(written(tmp_path / "s.txt", [""] * 40 + ["the cat"]), references)
    assert row(evaluation, "length").values["samples"].value == 1
    assert row(evaluation, "BLEU-2").values["samples"].value == 0
    for score in evaluation.scores:
        value = score.values["samples"].value
        assert value is None or not np.isnan(value), score.name


@pytest.mark.usefixtures("_no_judge")
def test_blank_lines_of_real_text_are_left_out_and_counted(tmp_path: Path) -> None:
    references = written(tmp_path / "r.txt", [*sentences(90, 2), "", " "])
    evaluation = scored(written(tmp_path / "s.txt", [f" {text}  " for text in sentences(30, 1)]), references)
    assert f"2 blank lines of {references} left out." in evaluation.notes
    assert any("of the 90 references" in note for note in evaluation.notes)
    assert evaluation.shown["samples"][0] == sentences(30, 1)[0]


@pytest.mark.usefixtures("_no_judge")
def test_real_text_of_a_language_of_many_forms_is_not_another_spelling(tmp_path: Path) -> None:
    # Most words of any such text stand nowhere else.
    r = random.Random(0)
    texts = [" ".join(["ja", *(f"w{r.randrange(10**6)}" for _ in range(3))]) for _ in range(400)]
    samples, references = (written(tmp_path / f"{i}.txt", texts[i::2]) for i in (0, 1))
    assert row(scored(samples, references), "BLEU-2").values[REAL].value > 0


def as_rows(path: Path, **columns: list[str]) -> Path:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if path.suffix == ".jsonl":
        return written(path, [json.dumps(row) for row in rows])
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.usefixtures("_no_judge")
def test_files_of_rows_are_scored_by_their_column_of_texts(tmp_path: Path) -> None:
    texts, real, learned = ([*sentences(40, i), ""] for i in (1, 2, 3))
    plain = scored(*(written(tmp_path / f"{i}.txt", some) for i, some in enumerate((texts, real, learned))))
    other = ["never read"] * 41
    for samples, references in (
        (as_rows(tmp_path / "s.jsonl", text=texts), as_rows(tmp_path / "r.csv", text=real, response=other)),
        (
            as_rows(tmp_path / "s.csv", text=other, response=texts),
            as_rows(tmp_path / "r.jsonl", prompt=other, answer=real),
        ),
    ):
        found = scored(samples, references, as_rows(tmp_path / "t.jsonl", text=learned))
        assert [score.values for score in found.scores] == [score.values for score in plain.scores]
        assert found.shown == plain.shown


@pytest.mark.usefixtures("_no_judge")
def test_compressed_files_and_lone_carriage_returns_are_read_with_their_blank_lines(tmp_path: Path) -> None:
    texts, real = [*sentences(20, 1), "", *sentences(20, 2)], sentences(60, 3)
    plain = scored(written(tmp_path / "s.txt", texts), written(tmp_path / "r.txt", real))
    packed, old = tmp_path / "s.txt.gz", tmp_path / "old.txt"
    packed.write_bytes(gzip.compress((tmp_path / "s.txt").read_bytes()))
    old.write_bytes(("\r".join(texts) + "\r").encode())
    for samples in (packed, old):
        found = scored(samples, tmp_path / "r.txt")
        assert (found.scores, found.notes) == (plain.scores, plain.notes)


@pytest.mark.usefixtures("_no_judge")
def test_a_sample_without_any_token_keeps_its_row(tmp_path: Path) -> None:
    references = written(tmp_path / "r.txt", sentences(60, 2))
    made = Tokenizer(models.BPE())  # it has no token for what it has not seen
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train([str(references)], trainers.BpeTrainer(vocab_size=60, special_tokens=["<pad>", "<s>", "</s>"]))
    made.save(str(tmp_path / "tokenizer.json"))
    own, texts = without_run._read_tokenizer(tmp_path / "tokenizer.json"), sentences(20, 1)
    strange = "\U0001f600"
    assert own.encode(strange) == []

    def length(samples: list[str]) -> float | None:
        path = written(tmp_path / "s.txt", samples)
        found = evaluate_files(
            path, references, None, "language_model", 0, silently, "token", tmp_path / "tokenizer.json"
        )
        return row(found, "length").values["samples"].value

    for place in (0, 7, 19):
        assert length([*texts[:place], strange, *texts[place:]][:20]) == length(
            [*texts[:place], "", *texts[place:]][:20]
        )
    targets = without_run._targets(["the cat", strange, "", "a dog"], own, 9)
    assert [targets[i].tolist() for i in (1, 2)] == [[own.vocabulary.eos_id]] * 2
    assert own.decode(targets[3].tolist()) == "a dog"


BAD = {
    "no such file": (None, sentences(30), "s.txt"),
    "empty samples": ([], sentences(30), "s.txt is empty"),
    "one sample": (["the cat"], sentences(30), "at least 2 are needed"),
    "one reference": (sentences(30), ["the cat"], "r.txt has 1 text; at least 6 are needed"),
    "blank samples alone": (["", " ", "\t"], sentences(30), "s.txt is empty"),
    "another script": (
        drawn("あいうえおかきくけこ", 30, 1),
        drawn("山水云月风花雪鸟江河松竹梅柳", 30, 1),
        "characters of",
    ),
    "another spelling": (
        [" ".join("\u2581" + word for word in text.split()) for text in sentences(30)],
        sentences(30),
        "spelt by one tokenizer",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_line(case: str, tmp_path: Path, capsys) -> None:
    samples, references, says = BAD[case]
    for name, texts in (("s.txt", samples), ("r.txt", references)):
        if texts is not None:
            (tmp_path / name).write_text("".join(f"{text}\n" for text in texts))
    files_given = ["--samples", str(tmp_path / "s.txt"), "--references", str(tmp_path / "r.txt")]
    assert main(["evaluate", *files_given, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give a run folder, or --samples"),
        (["--samples", "s.txt"], "--samples needs --references"),
        (["--samples", "s.txt", "--references", "r.txt", "--sweep"], "--sweep needs a run"),
        (["runs/x", "--references", "r.txt"], "--references goes with --samples"),
        (["runs/x", "--samples", "s.txt"], "give a run folder, or --samples"),
        (["runs/x", "--unit", "word"], "--unit goes with --samples; the unit of a run is evaluation.unit"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(arguments: list[str], says: str, capsys) -> None:
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error


@pytest.mark.thorough
def test_the_command_prints_the_table_and_keeps_it_where_asked(tmp_path: Path, capsys) -> None:
    samples, references = (written(tmp_path / f"{i}.txt", sentences(60, i)) for i in (1, 2))
    out = tmp_path / "out"
    command = ["evaluate", "--samples", str(samples), "--references", str(references), "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "| BLEU-4" in printed
    assert "real text" in printed
    kept = Evaluation.load(out)
    assert kept is not None
    assert row(kept, "BLEU-4").values.keys() == {"samples", REAL}


@pytest.mark.usefixtures("_no_judge")
def test_tokens_are_those_of_the_tokenizer_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples, references = (written(tmp_path / f"{i}.txt", sentences(40, i)) for i in (1, 2))
    arguments = ["evaluate", "--samples", str(samples), "--references", str(references)]
    tokenizers = {}
    for name, config in (("word", WordTokenizer()), ("character", CharacterTokenizer()), ("other", BpeTokenizer())):
        tokenizers[name] = fit_tokenizer(config, Corpus(Split(sentences(40, 3)), Split(["a"]), None))
        tokenizers[name].save(tmp_path / name / "tokenizer")  # as in a run folder
    assert main([*arguments, "--unit", "token"]) == 2
    assert "--unit token goes with --tokenizer PATH" in capsys.readouterr().err
    assert main([*arguments, "--tokenizer", str(tmp_path / "word")]) == 2
    assert main([*arguments, "--unit", "token", "--tokenizer", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 2

    def by(unit: UnitName, name: str | None = None) -> Evaluation:
        folder = None if name is None else tmp_path / name
        return evaluate_files(samples, references, None, "language_model", 0, silently, unit, folder)

    words, tokens = by("word"), by("token", "word")
    for figure in ("BLEU-2", "Self-BLEU-3", "distinct-2", "repeated 2-grams within a text", "length"):
        assert row(tokens, figure).values == row(words, figure).values
    # Spaces are tokens of characters, and are left out of the unit.
    characters = by("token", "character")
    assert row(characters, "length").values["samples"].value > row(by("character"), "length").values["samples"].value
    signatures = {row(by("token", name), "BLEU-2").signature for name in tokenizers}
    assert len(signatures) == 3
    assert all("tokens of tokenizer" in signature for signature in signatures)
    again = by("token", "word/tokenizer/tokenizer.json")
    assert row(again, "BLEU-2") == row(tokens, "BLEU-2")
