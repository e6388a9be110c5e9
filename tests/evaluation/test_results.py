"""What an evaluation found comes back from its file as it was, and a table has no row of unlike measurements."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import EVALUATION_FILE, Axes, Cell, Column, Evaluation, Score, Sweep, table_of
from gptgan_jax.metrics.estimates import REAL, Estimate, Figure

SWEEP = Sweep(
    cells=[
        Cell("likelihood", 0.7, 0.9, {"BLEU-4": Estimate(0.5, 0.01)}, {"held-out NLL": Estimate(math.inf)}),
        Cell(REAL, 1.0, 1.0, {}, {"BLEU-4": Estimate(None)}),
    ],
    axes=[Axes("BLEU-4", "held-out NLL", "higher", "lower", "", "nats/token")],
    combined={"Fréchet distance": ""},
    signatures={"BLEU-4": "12 references, words, method1"},
)
EVALUATION = Evaluation(
    columns=[Column("likelihood", "likelihood/400", "least validation loss"), Column("last", "adversarial/9", "last")],
    scores=[
        Score("reverse KL", "nats/text", "8 texts", "lower", {"likelihood": Estimate(math.inf), REAL: Estimate(0.0)}),
        Score("lower still", "", "-", "lower", {"likelihood": Estimate(-math.inf, math.inf)}),
        Score("MAUVE", "", "8 texts", "higher", {"last": Estimate(None), REAL: Estimate(1 / 3, 0.1 + 0.2)}),
        Score("length", "tokens", "8 texts", "real", {"last": Estimate(5e-324, 1e308)}),
    ],
    shown={"likelihood": ["ein Käfer\n", ""], REAL: ["「猫」", '"quoted"']},
    prompts=["inf", ""],
    notes=["± is one standard error over texts."],
    sweep=SWEEP,
)


@pytest.mark.parametrize("evaluation", [EVALUATION, replace(EVALUATION, sweep=None)], ids=["sweep", "no sweep"])
def test_what_is_saved_is_read_back(evaluation: Evaluation, tmp_path: Path) -> None:
    assert Evaluation.load(tmp_path) is None
    assert evaluation.save(tmp_path) == tmp_path / EVALUATION_FILE
    assert Evaluation.load(tmp_path) == evaluation
    assert [path.name for path in tmp_path.iterdir()] == [EVALUATION_FILE], "nothing else is left behind"


def test_the_file_is_json_that_any_reader_takes(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    content = json.loads(EVALUATION.save(tmp_path).read_text("utf-8"), parse_constant=refuse)
    assert content["scores"][0]["values"]["likelihood"] == {"value": "inf", "error": None}
    assert content["scores"][1]["values"]["likelihood"] == {"value": "-inf", "error": "inf"}
    assert content["scores"][2]["values"]["last"] == {"value": None, "error": None}
    assert content["sweep"]["cells"][0]["test"]["held-out NLL"]["value"] == "inf"


@pytest.mark.parametrize("wrong", [Estimate(math.nan), Estimate(1.0, math.nan)])
@pytest.mark.parametrize("place", ["table", "sweep"])
def test_nan_is_never_written_and_an_earlier_file_survives(wrong: Estimate, place: str, tmp_path: Path) -> None:
    EVALUATION.save(tmp_path)
    if place == "table":
        broken = replace(EVALUATION, scores=[Score("MAUVE", "", "8 texts", "higher", {REAL: wrong})])
    else:
        broken = replace(EVALUATION, sweep=replace(SWEEP, cells=[Cell(REAL, 1.0, 1.0, {}, {"MAUVE": wrong})]))
    with pytest.raises(ValueError, match="nan"):
        broken.save(tmp_path)
    assert Evaluation.load(tmp_path) == EVALUATION


WHOLE = {"columns": [], "scores": [], "shown": {}, "prompts": [], "notes": [], "sweep": None}
ROW = {"name": "a", "unit": "", "signature": "", "better": "real", "values": {}}
DAMAGED = {
    "cut off": json.dumps(WHOLE)[:-9],
    "empty": "",
    "a list": "[]",
    "without columns": json.dumps({name: value for name, value in WHOLE.items() if name != "columns"}),
    "of a later version": json.dumps(WHOLE | {"verdict": "good"}),
    "a word for a number": json.dumps(WHOLE | {"scores": [ROW | {"values": {"b": {"value": "high"}}}]}),
    "no such direction": json.dumps(WHOLE | {"scores": [ROW | {"better": "sideways"}]}),
}


def test_what_is_damaged_below_would_be_read_if_it_were_not(tmp_path: Path) -> None:
    (tmp_path / EVALUATION_FILE).write_text(json.dumps(WHOLE | {"scores": [ROW | {"values": {"b": {"value": 1}}}]}))
    assert Evaluation.load(tmp_path) == Evaluation(
        [], [Score("a", "", "", "real", {"b": Estimate(1.0)})], {}, [], [], None
    )


@pytest.mark.parametrize("content", [*map(str.encode, DAMAGED.values()), b"\xff\xfe{"], ids=[*DAMAGED, "not text"])
def test_a_damaged_file_is_one_line_that_says_which_file_and_what_to_do(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / EVALUATION_FILE
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        Evaluation.load(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{path} is damaged (")
    assert message.endswith("remove it and run `gptgan evaluate` again")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 220


def test_a_folder_in_the_place_of_the_file_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / EVALUATION_FILE).mkdir()
    with pytest.raises(UserError, match="is damaged"):
        Evaluation.load(tmp_path)


LENGTH = Figure("length", "tokens", Estimate(4.0, 0.5), "8 texts")
BLEU = Figure("BLEU-4", "", Estimate(0.25), "8 texts; 12 references", "higher")


def test_a_table_joins_the_columns_by_name_in_the_order_in_which_names_first_appear() -> None:
    longer = replace(LENGTH, estimate=Estimate(9.0))
    only_real = Figure("source NLL", "nats/text", Estimate(3.0), "exact", "real")
    table = table_of({"best": [BLEU, LENGTH], "last": [longer], REAL: [only_real, longer, BLEU]})
    assert table == [
        Score("BLEU-4", "", "8 texts; 12 references", "higher", {"best": Estimate(0.25), REAL: Estimate(0.25)}),
        Score(
            "length",
            "tokens",
            "8 texts",
            "real",
            {"best": Estimate(4.0, 0.5), "last": Estimate(9.0), REAL: Estimate(9.0)},
        ),
        Score("source NLL", "nats/text", "exact", "real", {REAL: Estimate(3.0)}),
    ]
    assert table_of({}) == table_of({"best": []}) == []


@pytest.mark.parametrize(
    "other",
    [
        replace(BLEU, signature="8 texts; 13 references"),
        replace(BLEU, unit="percent"),
        replace(BLEU, better="lower"),
    ],
    ids=["signature", "unit", "direction"],
)
def test_figures_of_one_name_that_were_measured_otherwise_are_refused(other: Figure) -> None:
    with pytest.raises(ValueError, match="BLEU-4"):
        table_of({"best": [LENGTH, BLEU], "last": [other]})
