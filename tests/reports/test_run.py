"""The report of a run shows what was recorded and judged, nothing that was not, and no text in it can do harm."""

import dataclasses
import html
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from reported import check_self_contained, evaluation, make_run, sweep

from gptgan_jax.config.files import to_yaml
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.memorisation import COPIED
from gptgan_jax.evaluation.results import EVALUATION_FILE, Column, Evaluation, Score
from gptgan_jax.metrics.estimates import REAL, Estimate
from gptgan_jax.reports.run import (
    Alarm,
    ReportedRun,
    alarms_in,
    alarms_of,
    compared,
    load_reported_run,
    write_run_report,
)
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import one_line

EVIL = "<script>alert(1)</script> | a `b` *c* _d_ [e](f) ![x](y) <unk> &amp; \\| \n x \x1b[2J"


def report(run: ReportedRun) -> str:
    """report.md, once report.html is known to be self-contained and to have the same headings and tables."""
    path = write_run_report(run)
    assert path == run.folder / "report.html"
    page = check_self_contained(path.read_text(encoding="utf-8"))
    text = (run.folder / "report.md").read_text(encoding="utf-8")
    prose = re.sub(r"^(`+)\w+\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = [plain(line.lstrip("# ")) for line in prose.splitlines() if line.startswith("#")]
    assert page.of("h1", "h2", "h3") == headings
    rows = [line for line in prose.splitlines() if line.startswith("| ")]
    cells = [plain(cell) for row in rows if "---" not in row for cell in row.strip("|").split(" | ")]
    assert page.of("td", "th", "strong", "em") == [cell for cell in cells if cell]
    assert page.tags.count("img") == len(re.findall(r"^!\[", prose, flags=re.MULTILINE))
    return text


def plain(markdown: str) -> str:
    """What a reader sees of a line of Markdown."""
    text = re.sub(r"^(\*{1,2})(.+)\1$", r"\2", markdown.strip())
    return html.unescape(re.sub(r"\\([\\*_\[\]~$#])", r"\1", text))


@pytest.mark.thorough
def test_a_finished_run_has_every_part_and_pictures_that_are_not_blank(tmp_path: Path) -> None:
    run = make_run(tmp_path, judged=evaluation(sweep=sweep()), alarm="accuracy 0.97", seed=3)
    text = report(run)
    for part in (
        "# a run",
        "- a note",
        "held-out NLL (nats/token)",
        "text before",
        "step 60: accuracy 0.97",
        "seed: 3",
    ):
        assert part in text
    for name in ("loss.png", "discriminator.png", "frontier-1.png"):
        assert f"]({name})" in text
        pixels = imread(run.folder / name)
        assert pixels.shape[1] == 800
        assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 50
    assert sorted(p.name for p in run.folder.glob("*.png")) == ["discriminator.png", "frontier-1.png", "loss.png"]
    parts = [
        "# a run",
        "## Alarms",
        "accuracy 0.97",
        "Evaluated: likelihood: checkpoint likelihood/20 (least validation loss); adversarial, best: checkpoint",
        "## Results",
        "- ± is one standard error",
        "- a note",
        "## Sweep",
        "frontier-1.png",
        "Self-BLEU-4: 20 texts; BLEU-4: 20 texts, words; bars: one standard error over texts\n",
        "### Quality at equal diversity",
        "| adversarial against likelihood |",
        "too few runs",
        "which adversarial and continued reach in all runs (1)",
        "### Best temperature",
        "| Fréchet distance | adversarial | ",
        "Measured with: Fréchet distance: mean hidden state",
        "## Curves",
        "loss.png",
        "discriminator.png",
        "## Samples",
        "## Configuration",
        "```yaml\nname: a run\n",
        "## Reproduce",
    ]
    positions = [text.index(part) for part in parts]
    assert positions == sorted(positions)


def test_what_the_errors_are_is_said_once(tmp_path: Path) -> None:
    line = "± is one standard error over texts."
    assert report(make_run(tmp_path, "a")).count(line) == 1
    assert report(make_run(tmp_path, "b", evaluation(notes=[f"{line} And more."]))).count(line) == 1


def test_the_clearly_better_checkpoint_is_bold_in_both_forms(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert "**2.500 ± 0.010**" in report(run)
    assert "<strong>2.500 ± 0.010</strong>" in (run.folder / "report.html").read_text(encoding="utf-8")


def test_a_run_with_only_one_column_and_no_records_has_what_there_is(tmp_path: Path) -> None:
    judged = evaluation(
        columns=[Column("likelihood", "likelihood/20", "last")],
        scores=[Score("x", "", "", "lower", {"likelihood": Estimate(None)})],
        shown={"likelihood": ["so far"]},
        sweep=sweep(columns=["likelihood"]),
    )
    run = make_run(tmp_path, judged=judged, last=0)
    text = report(run)
    for absent in ("## Curves", "Quality at equal diversity", "adversarial, best", "nan"):
        assert absent not in text
    assert "| x     | ↓      |          – |" in text
    assert "### Best temperature" in text
    assert "None fired." in text
    assert [p.name for p in run.folder.glob("*.png")] == ["frontier-1.png"]


def test_an_evaluation_of_nothing_still_has_a_report(tmp_path: Path) -> None:
    nothing = Evaluation(columns=[], scores=[], shown={}, prompts=[], notes=[])
    text = report(make_run(tmp_path, judged=nothing, last=0))
    for absent in ("Evaluated", "## Results", "## Sweep", "## Curves", "## Samples", "standard error", "Bold is"):
        assert absent not in text
    assert "## Configuration" in text


@pytest.mark.parametrize("last", [1, 19, 23])
def test_a_half_finished_run_has_the_pictures_it_can_have(tmp_path: Path, last: int) -> None:
    run = make_run(tmp_path, last=last)
    text = report(run)
    assert (run.folder / "loss.png").exists()
    assert (run.folder / "discriminator.png").exists() == ("discriminator.png" in text) == (last > 20)
    assert "None fired." in text


def test_no_records_no_pictures_also_where_an_earlier_report_left_some(tmp_path: Path) -> None:
    run = make_run(tmp_path, judged=evaluation(sweep=sweep()))
    report(run)
    assert len(list(run.folder.glob("*.png"))) == 3
    (run.folder / "metrics.jsonl").unlink()
    evaluation().save(run.folder)
    assert ".png" not in report(load_reported_run(RunFolder(run.folder)))
    assert not list(run.folder.glob("*.png"))


def test_texts_do_no_harm_wherever_they_stand(tmp_path: Path) -> None:
    scores = [Score(EVIL, EVIL, EVIL, "lower", {EVIL: Estimate(1.0), REAL: Estimate(2.0)})]
    judged = evaluation(
        columns=[Column(EVIL, EVIL, EVIL)],
        scores=scores,
        shown={EVIL: [EVIL], "b": [EVIL]},
        prompts=[EVIL],
        notes=[EVIL],
    )
    run = make_run(tmp_path, judged=judged, alarm=EVIL)
    text = report(run)
    assert "<" not in text
    assert "\x1b" not in text
    assert "`b`" not in text
    samples = text[text.index("## Samples") : text.index("## Configuration")]
    rows = [line for line in samples.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5}, "four columns whatever is in them"
    page = check_self_contained((run.folder / "report.html").read_text(encoding="utf-8"))
    shown = page.of("td", "th", "li", "p")
    assert shown.count(one_line(EVIL)) == 3 + 1 + 3, "three samples, a note; heads of two tables and a signature"


def test_prompts_stand_before_what_answers_them(tmp_path: Path) -> None:
    text = report(make_run(tmp_path, judged=evaluation(prompts=["a question"])))
    assert "|   1 | a question | text before | text after        | true text |" in text


@pytest.mark.parametrize("swept", [True, False])
def test_the_commands_are_quoted_for_a_shell(tmp_path: Path, swept: bool) -> None:
    run = make_run(tmp_path, name="it's $(a) `run`", judged=evaluation(sweep=sweep() if swept else None))
    text = report(run)
    fence = re.search(r"^(`+)sh\n(.*?)\n\1$", text, flags=re.DOTALL | re.MULTILINE)
    assert fence
    folder = str(run.folder)
    assert [shlex.split(line) for line in fence[2].splitlines()] == [
        ["python", "train.py", f"{folder}/config.yaml", "--name", "it's $(a) `run`-again"],
        ["gptgan", "evaluate", folder, *(["--sweep"] if swept else [])],
        ["gptgan", "report", folder],
    ]


def test_cells_that_are_not_shown_are_counted(tmp_path: Path) -> None:
    one = sweep()
    cells = [
        dataclasses.replace(cell, test=cell.test | {"BLEU-4": Estimate(float("inf"))}) if cell.top_p < 1 else cell
        for cell in one.cells
    ]
    text = report(make_run(tmp_path, judged=evaluation(sweep=dataclasses.replace(one, cells=cells))))
    assert "bars: one standard error over texts; 21 of 42 cells are not finite and not shown\n" in text


def test_a_run_is_read_from_its_folder(tmp_path: Path) -> None:
    judged = evaluation(sweep=sweep())
    run = make_run(tmp_path, judged=judged, last=3, seed=5)
    assert run.folder == tmp_path / "a run"
    assert run.evaluation == judged
    assert "seed: 5" in to_yaml(run.config)
    assert [record["step"] for record in run.records] == [1, 2, 3]


def test_a_folder_that_can_not_be_reported_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder") as caught:
        load_reported_run(RunFolder(tmp_path / "none"))
    assert "\n" not in str(caught.value)
    run = make_run(tmp_path)
    (run.folder / EVALUATION_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="is damaged"):
        load_reported_run(RunFolder(run.folder))


def test_a_run_that_was_stopped_has_a_report_with_its_curves(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run.folder / EVALUATION_FILE).unlink()
    text = report(load_reported_run(RunFolder(run.folder)))
    assert "- Not evaluated yet: gptgan evaluate '" in text
    assert "](loss.png)" in text
    for absent in ("## Results", "standard error", "Bold is"):  # what explains figures stands beside some
        assert absent not in text
    assert "seed: " in text


def test_alarms_stand_before_all_figures_and_what_means_little_is_not_bold(tmp_path: Path) -> None:
    text = report(make_run(tmp_path, "quiet"))
    assert text.index("## Results") < text.index("## Alarms") < text.index("None fired.")
    assert "**" in text
    shared = report(make_run(tmp_path, "shared", evaluation(notes=["ALARM: data.valid shares 2 %"])))
    assert shared.index("- data.valid shares 2 %") < shared.index("Evaluated:")
    assert "**" in shared
    odd = evaluation(notes=["a note", "ALARM: the tokenizer doesn't suit the text: whole texts are words"])
    text = report(make_run(tmp_path, "odd", odd))
    assert text.index("whole texts are words") < text.index("Evaluated:")
    assert text.count("whole texts are words") == 1
    assert "- a note" in text
    assert "**" not in text


def test_alarms_are_found_in_the_records(tmp_path: Path) -> None:
    run = make_run(tmp_path, last=10, alarm="odd")
    assert alarms_in(run.records) == [Alarm("adversarial", 10, "odd")]
    assert str(alarms_in(run.records)[0]) == "adversarial, step 10: odd"


def test_what_a_checkpoint_knows_by_heart_is_an_alarm_beside_those_of_training(tmp_path: Path) -> None:
    share = {"likelihood": Estimate(0.4, 0.02), "adversarial, best": Estimate(0.1, 0.02), REAL: Estimate(0.1, 0.02)}
    rows = [Score(COPIED, "share", "", "real", share)]
    run = make_run(tmp_path, judged=dataclasses.replace(evaluation(), scores=rows), alarm="odd")
    text = report(run)
    alarms = text[text.index("## Alarms") : text.index("Evaluated:")]
    assert "step 60: odd" in alarms
    assert "likelihood: 40.0% of its texts are in the training text, 10.0% of held-out ones" in alarms
    assert "adversarial, best:" not in alarms
    # Of a column that was copied from another run, that one tells.
    copied = [dataclasses.replace(one, run="elsewhere") for one in run.evaluation.columns]
    assert alarms_of(dataclasses.replace(run, evaluation=dataclasses.replace(run.evaluation, columns=copied))) == [
        "adversarial, step 60: odd"
    ]


def test_what_a_discriminator_or_reranking_made_is_compared_with_each_baseline() -> None:
    one = sweep()
    base = [cell for cell in one.cells if cell.column == "likelihood"]
    names = ("likelihood", "continued", "reranked", "residual")
    made = dataclasses.replace(one, cells=[dataclasses.replace(cell, column=name) for name in names for cell in base])
    found = [(each.ours, each.theirs) for each in compared([made, made], one.axes[0])]
    of_residual = [("residual", theirs) for theirs in ("likelihood", "continued", "reranked")]
    assert found == [*of_residual, ("reranked", "likelihood"), ("reranked", "continued")]
    assert compared([made, dataclasses.replace(made, cells=base)], one.axes[0]) == []
