"""A study from its file to its report, of runs that are made up; one is of real runs, in processes of their own."""

import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from studies.grids import HIDDEN, JUDGES, make_run, runner, study_in, write_study

from gptgan_jax.cli import main
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.reports import arms
from gptgan_jax.reports.document import Picture
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.lock import locked
from gptgan_jax.studies import jobs as of_jobs
from gptgan_jax.studies import results
from gptgan_jax.studies import study as studies
from gptgan_jax.studies.board import Board, duration
from gptgan_jax.studies.devices import Slot
from gptgan_jax.studies.jobs import Job, is_done, jobs_of
from gptgan_jax.studies.pool import Progress, State
from gptgan_jax.studies.results import Sizes, read_cell
from gptgan_jax.studies.study import preview_study, report_study, run_study
from gptgan_jax.studies.study_file import Study, load_study

SKILL = {"4": 0.1, "6": 0.3}


def skill(job: Job) -> float:
    """Twice as much with the larger discriminator; seeds differ by ± 0.01."""
    config = job.config
    judged = 2 if config.discriminator.embedding == 8 else 1
    return SKILL[str(config.generator.hidden)] * judged + (0.01 if job.seed else -0.01)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    make_up(monkeypatch)


def make_up(patch: pytest.MonkeyPatch) -> None:
    """Runs are done when they have been evaluated; nothing is loaded, and nothing drawn."""
    patch.setattr(arms, "_sweeps", lambda measured: [])
    patch.setattr(of_jobs, "is_finished", lambda folder, config: folder.check(config))
    patch.setattr(results, "sizes_in", lambda folder: Sizes(1000, 500))
    patch.setattr(studies, "check_study", lambda study, done: None)
    patch.setattr(Picture, "png", b"")


def ran(study: Study, **keys: Any) -> tuple[str, list[str], list[str]]:
    said: list[str] = []
    table, report, failed = run_study(study, [Slot()], said.append, runner(skill, **keys), io.StringIO())
    assert report == study.folder / "report.html"
    return table, failed, said


def rows_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]


class Finished(NamedTuple):
    study: Study
    table: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A study of four cells that was run to its end; whoever changes it brings it back there."""
    study = study_in(tmp_path_factory.mktemp("study"))
    with pytest.MonkeyPatch.context() as patch:
        make_up(patch)
        return Finished(study, ran(study)[0])


def test_the_table_has_each_cells_gains_with_intervals_over_seeds(finished: Finished) -> None:
    study = finished.study
    heads, _, *rows = rows_of(finished.table)
    assert [row[:2] for row in rows[:4]] == [
        ["hidden 4, small", name] for name in ("likelihood", "continued likelihood", "reinforce", "longer")
    ]
    assert len(rows) == 4 * 4
    gain = heads.index("gain against likelihood")
    # Of 2 seeds at g ± 0.01 the interval is 12.706 * 0.01 wide on each side.
    expected = {"hidden 4, small": 0.1, "hidden 4, large": 0.2, "hidden 6, small": 0.3, "hidden 6, large": 0.6}
    for name, value in expected.items():
        (row,) = (row for row in rows if row[:2] == [name, "reinforce"])
        text = f"+{value:.3f} ± 0.127"
        assert row[gain] == row[gain + 1] == (f"**{text}**" if value > 0.127 else text)
    assert {row[gain] for row in rows if row[1] in ("longer", "continued likelihood")} == {"+0.000 ± 0.000"}
    assert {row[gain] for row in rows if row[1] == "likelihood"} == {"–"}
    report = (study.folder / "report.md").read_text()
    assert (
        "reinforce against likelihood: better in 3 of 4 cells (hidden 4, large; hidden 6, small; hidden 6, large), "
        "worse in 0, no difference shown in 1"
    ) in report
    assert "gptgan study" in report


def test_the_results_of_a_cell_are_kept_as_json(finished: Finished) -> None:
    study = finished.study
    cell = study.cells[1]
    plain = json.loads((study.folder / cell.slug / "cell.json").read_text())
    assert plain["points"] == {"generator.hidden": "4", "judge": "large"}
    assert plain["sizes"]["reinforce"] == {"generator": 1000, "discriminator": 500}
    result = read_cell(cell)
    assert result.seeds == (0, 1)
    (row,) = (row for row in result.rows if row.model == "reinforce")
    assert row.against_continued.value == pytest.approx(0.2)
    assert [one.value for one in row.against_likelihood.by_seed] == pytest.approx([0.19, 0.21])
    assert (study.folder / cell.slug / "comparison" / "report.html").is_file()


def test_the_results_of_a_cell_are_read_as_they_are_written(finished: Finished) -> None:
    cell = finished.study.cells[0]
    path = cell.comparison.folder / "cell.json"
    text = path.read_text()
    plain = json.loads(text)
    (model,) = (one for one in plain["comparison"]["models"] if one["model"] == "reinforce")
    for value, name in enumerate(("against_likelihood", "against_continued"), 3):
        model[name]["value"] = value
    try:
        path.write_text(json.dumps(plain))
        (row,) = (row for row in read_cell(cell).rows if row.model == "reinforce")
    finally:
        path.write_text(text)
    assert (row.against_likelihood.value, row.against_continued.value) == (3, 4)


def test_results_of_other_seeds_or_without_an_arm_are_none(finished: Finished) -> None:
    cell = finished.study.cells[0]
    assert read_cell(cell).seeds == (0, 1)
    for changes, there in (({"seeds": (0,)}, False), ({"seeds": (0, 1, 2)}, True), ({"arms": ()}, False)):
        other = dataclasses.replace(cell, comparison=dataclasses.replace(cell.comparison, **changes))
        assert (read_cell(other) is not None) == there, changes
    renamed = tuple(dataclasses.replace(arm, name=f"another {arm.name}") for arm in cell.comparison.arms)
    other = dataclasses.replace(cell, comparison=dataclasses.replace(cell.comparison, arms=renamed))
    assert read_cell(other) is None


@pytest.mark.usefixtures("made_up")
def test_a_run_that_was_not_swept_is_not_done(tmp_path: Path) -> None:
    job = jobs_of(study_in(tmp_path))[0]
    make_run(job, 0.1)
    assert is_done(job)
    dataclasses.replace(Evaluation.load(job.folder), sweep=None).save(job.folder)
    assert not is_done(job)


def test_a_damaged_result_is_told_of(tmp_path: Path) -> None:
    (cell,) = study_in(tmp_path, cells={"generator.hidden": [4]}).cells
    assert read_cell(cell) is None
    cell.comparison.folder.mkdir(parents=True)
    for text, says in (("{}", r"is damaged \(KeyError.*remove it, and the same command"), ("{", "can't be read")):
        (cell.comparison.folder / "cell.json").write_text(text)
        with pytest.raises(UserError, match=f"cell.json {says}"):
            read_cell(cell)


@pytest.mark.usefixtures("made_up")
def test_the_same_command_again_makes_only_what_is_missing(finished: Finished) -> None:
    study, first = finished
    before = {path: path.stat().st_mtime_ns for path in study.folder.glob("*/**/*.json")}
    lost = next(job for job in jobs_of(study) if job.title == "hidden 6, large; seed 1; reinforce")
    for file in lost.folder.iterdir():
        file.unlink()
    lost.folder.rmdir()
    table, _, said = ran(study)
    assert table == first
    assert [line for line in said if "running" in line] == ["[15/16] hidden 6, large; seed 1; reinforce: running 0:00"]
    assert [line for line in said if "report of" in line] == ["report of hidden 6, large"], "of no other cell"
    untouched = {path for path, at in before.items() if path.stat().st_mtime_ns == at}
    assert {path.parts[-3] for path in set(before) - untouched} <= {"grid", "hidden-6_large"}


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize(
    ("changes", "models"),
    [
        ({"cells": {"size": {"hidden-4": {"generator.hidden": 4}}}}, ["reinforce", "longer"]),
        ({"cells": [{"name": "hidden 4", "set": {"generator.hidden": 4}}]}, ["reinforce", "longer"]),
        ({"arms": {"reinforce": {}}}, ["reinforce"]),
        ({"arms": {"Longer": {"from_scratch": True, "set": {"likelihood.steps": 6}}}}, ["Longer"]),
    ],
)
def test_after_an_edit_of_the_file_the_report_is_of_what_the_file_says(
    changes: dict[str, Any], models: list[str], tmp_path: Path
) -> None:
    ran(study_in(tmp_path, cells={"generator.hidden": [4]}))
    study = study_in(tmp_path, **{"cells": {"generator.hidden": [4]}} | changes)
    table, failed, said = ran(study)
    assert not failed
    assert not [line for line in said if "running" in line]
    assert [row[:2] for row in rows_of(table)[2:]] == [
        [study.cells[0].name, model] for model in ["likelihood", "continued likelihood", *models]
    ]
    assert [line for line in ran(study)[2] if "report of" in line] == []


@pytest.mark.usefixtures("made_up")
def test_the_reports_say_how_to_make_them_again_with_all_that_was_given(tmp_path: Path) -> None:
    path = write_study(tmp_path, cells={"generator.hidden": [4]}, arms={"reinforce": {}})
    study = load_study(path, 1, ["--likelihood.steps", "5"])
    ran(study)
    for report in ("report.md", f"{study.cells[0].slug}/comparison/report.md"):
        assert f"gptgan study {path} --seeds 1 --likelihood.steps 5\n" in (study.folder / report).read_text()


@pytest.mark.usefixtures("made_up")
def test_a_study_that_another_process_makes_is_left_alone(tmp_path: Path) -> None:
    study = study_in(tmp_path, cells={"generator.hidden": [4]}, arms={"reinforce": {}}, seeds=1)

    def started(job: Job, slot: Slot) -> Any:
        raise AssertionError("a run was begun")

    with locked(study.folder, print), pytest.raises(UserError, match=f"{study.folder} is in use by a live run"):
        run_study(study, [Slot()], lambda line: None, started, io.StringIO())
    assert ran(study)[1] == []


@pytest.mark.usefixtures("made_up")
def test_a_run_that_was_made_anew_is_reported_anew(tmp_path: Path) -> None:
    study = study_in(tmp_path, cells={"generator.hidden": [4]}, arms={"reinforce": {}}, seeds=1)
    before, _, _ = ran(study)
    job = jobs_of(study)[1]
    shutil.rmtree(job.folder)
    make_run(job, 0.5)
    table, _, _ = report_study(study, lambda line: None)
    assert table != before
    assert "+0.500" in table


@pytest.mark.usefixtures("made_up")
def test_a_run_that_fails_is_told_of_and_the_rest_is_reported(tmp_path: Path) -> None:
    study = study_in(tmp_path, cells=HIDDEN, arms={"reinforce": {}})
    failing = {
        "hidden 6; seed 0; likelihood": "loss not finite at step 3",
        "hidden 4; seed 1; reinforce": "out of memory",
    }
    table, failed, _ = ran(study, failing=failing)
    assert failed[:2] == [
        "hidden 6; seed 0; likelihood failed: loss not finite at step 3",
        "hidden 6; seed 0; reinforce failed: the likelihood run that it starts from failed",
    ]
    assert failed[-1] == "hidden 4; seed 1; reinforce failed: out of memory"
    heads, _, *rows = rows_of(table)
    gains = {(row[0], row[1]): row[heads.index("gain against likelihood")] for row in rows}
    assert gains["hidden 4", "reinforce"] == "+0.090 (1 of 2 seeds)"
    assert gains["hidden 6", "reinforce"] == "+0.310", "of the seed that is left"
    report = (study.folder / "report.md").read_text()
    assert "FAILED: hidden 6; seed 0; likelihood failed: loss not finite at step 3" in report
    assert "hidden 6: of 1 seed(s) alone" in report
    assert ran(study)[1] == [], "the same command tries them again"


@pytest.mark.usefixtures("made_up")
def test_a_report_alone_tells_of_the_runs_that_failed_and_keeps_their_cells(tmp_path: Path) -> None:
    study = study_in(tmp_path, cells=HIDDEN, arms={"reinforce": {}}, seeds=3)
    failing = {
        "hidden 4; seed 1; reinforce": "out of memory",
        "hidden 6; seed 2; likelihood": "loss not finite at step 3",
    }
    table, failed, _ = ran(study, failing=failing)
    report = (study.folder / "report.md").read_text()
    assert len(failed) == 3
    assert report_study(study, print)[::2] == (table, failed)
    assert (study.folder / "report.md").read_text() == report
    assert "not done yet" not in report


@pytest.mark.usefixtures("made_up")
def test_a_report_alone_tells_of_a_cell_of_which_everything_failed(tmp_path: Path) -> None:
    study = study_in(tmp_path, cells=HIDDEN, arms={"reinforce": {}}, seeds=1)
    table, failed, _ = ran(study, failing={"hidden 6; seed 0; likelihood": "no memory"})
    assert len(failed) == 2
    assert report_study(study, print)[::2] == (table, failed)
    assert "1 of 2 cells have results; 0 runs are not done yet." in (study.folder / "report.md").read_text()
    assert ran(study)[1] == [], "the same command tries them again"
    assert report_study(study, print)[2] == []


@pytest.mark.usefixtures("made_up")
def test_a_run_that_failed_and_was_made_since_is_in_the_next_report(tmp_path: Path) -> None:
    study = study_in(tmp_path, cells={"generator.hidden": [4]}, arms={"reinforce": {}})
    ran(study, failing={"hidden 4; seed 1; reinforce": "out of memory"})
    # A call that was interrupted before its report made the run; the next one finds everything done.
    for job in jobs_of(study):
        if job.title == "hidden 4; seed 1; reinforce":
            make_run(job, skill(job))
    table, _, failed = report_study(study, lambda line: None)
    assert failed == []
    assert "of 2 seeds" not in table
    assert read_cell(study.cells[0]).failed == {}


@pytest.mark.usefixtures("made_up")
def test_a_study_of_which_everything_failed_has_a_report_that_says_so(tmp_path: Path) -> None:
    study = study_in(tmp_path, cells={"generator.hidden": [4]}, seeds=1)
    _, failed, _ = ran(study, failing={job.title: "no" for job in jobs_of(study)})
    assert len(failed) == 3
    assert "No cell has results yet." in (study.folder / "report.md").read_text()


@pytest.mark.usefixtures("made_up")
def test_a_report_can_be_had_of_the_cells_that_are_done(tmp_path: Path) -> None:
    study = study_in(tmp_path, cells=HIDDEN)
    for job in jobs_of(study):
        if job.cell == "hidden 4":
            make_run(job, skill(job))
    table, _, failed = report_study(study, lambda line: None)
    assert {row[0] for row in rows_of(table)[2:]} == {"hidden 4"}
    assert failed == []
    assert "1 of 2 cells have results; 6 runs are not done yet." in (study.folder / "report.md").read_text()


@pytest.mark.usefixtures("made_up")
def test_a_report_is_of_all_seeds_that_are_done_whoever_ran_them(tmp_path: Path) -> None:
    ran(study_in(tmp_path, cells={"generator.hidden": [4]}))
    study = study_in(tmp_path, cells={"generator.hidden": [4]}, seeds=3)
    assert read_cell(study.cells[0]).seeds == (0, 1)
    for job in jobs_of(study):
        if not job.folder.exists():
            make_run(job, skill(job))
    report_study(study, lambda line: None)
    assert read_cell(study.cells[0]).seeds == (0, 1, 2)


@pytest.mark.parametrize(("state", "cells"), [(State.DONE, 4), (State.RUNNING, 3), (State.WAITING, 3)])
def test_a_cell_with_a_run_to_come_has_no_results_yet(state: State, cells: int, finished: Finished) -> None:
    jobs = jobs_of(finished.study)
    progress = {job.folder: Progress(State.DONE) for job in jobs}
    last = next(job for job in jobs if job.title == "hidden 6, large; seed 1; reinforce")
    progress[last.folder] = Progress(state)
    assert len(studies.collect(finished.study, progress)) == cells


@pytest.mark.usefixtures("made_up")
def test_more_seeds_are_added_to_a_study_that_is_done(tmp_path: Path) -> None:
    one = {"generator.hidden": [4]}
    ran(study_in(tmp_path, seeds=1, cells=one))
    study = study_in(tmp_path, seeds=2, cells=one)
    _, _, said = ran(study)
    assert len([line for line in said if "running" in line]) == 3
    assert read_cell(study.cells[0]).seeds == (0, 1)


def test_a_run_that_would_be_refused_is_so_before_anything_runs_with_its_cells_name(tmp_path: Path) -> None:
    cells = HIDDEN | {"frozen": {"no": {}, "all": {"warmup.optimizer.frozen": ["xyz"]}}}
    study = study_in(tmp_path, cells=cells, seeds=1, arms={"reinforce": {}})
    with pytest.raises(UserError) as raised:
        run_study(study, [Slot()], lambda line: None, runner(skill))
    says = "arm reinforce: warmup.optimizer.frozen 'xyz' matches none of the 3 parameters"
    for line, hidden in zip(raised.value.lines, (4, 6), strict=True):
        assert line.startswith(f"{study.file}: cell hidden {hidden}, all: {says}")
    assert not study.folder.exists()


def test_a_folder_that_holds_another_run_is_told_with_its_cell(tmp_path: Path) -> None:
    job = jobs_of(study_in(tmp_path))[0]
    RunFolder(job.folder).path.mkdir(parents=True)
    RunFolder(job.folder).write_config(job.config)
    study = study_in(tmp_path, set={"likelihood.steps": 5, "adversarial.steps": 2})
    says = r"cell hidden 4, small: likelihood, seed 0: .* holds a run of another config \(likelihood.steps: 4 -> 5\)"
    with pytest.raises(UserError, match=says):
        run_study(study, [Slot()], lambda line: None, runner(skill))


def test_a_preview_lists_cells_parameters_and_what_is_done_and_writes_nothing(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    path = write_study(tmp_path)
    before = sorted(os.walk(tmp_path))
    assert main(["study", str(path), "--dry-run", "--workers", "1"]) == 0
    assert sorted(os.walk(tmp_path)) == before
    lines = [re.split("  +", line) for line in capsys.readouterr().out.splitlines()]
    sizes = {(line[0], line[1]): line[2:] for line in lines if len(line) == 5 and "waiting" not in line}
    assert sizes["cell", "model"] == ["generator", "discriminator", "steps"]
    # Of an LSTM of 4 with V words: embedding V * 4, gates 4 * (4 + 4 + 1) * 4, output 4 * V + V.
    generators = {row[0] for key, row in sizes.items() if key[0] == "hidden 4, small"}
    (vocabulary,) = {(int(count.replace(",", "")) - 144) / 9 for count in generators}
    assert vocabulary == int(vocabulary)
    # A linear discriminator of n has n weights a word, one for each of these, and a bias.
    assert sizes["hidden 4, small", "reinforce"][1] == f"{int(4 * vocabulary + 5):,}"
    assert sizes["hidden 4, large", "likelihood"][2].endswith("(of hidden-4_small)")
    assert ["hidden 4, small", "0", "waiting", "waiting", "waiting"] in lines


@pytest.mark.usefixtures("made_up")
def test_a_preview_says_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_in(tmp_path, cells={"generator.hidden": [4]}, seeds=1)
    for job in jobs_of(study)[:2]:
        make_run(job, 0.1)
    monkeypatch.setattr(studies, "check_study", lambda study, done, load: None)
    monkeypatch.setattr(studies, "_sizes", lambda *_: Sizes(7, None))
    lines = preview_study(study, [Slot(), Slot()])
    assert [line.split() for line in lines if line.startswith("hidden 4") and "steps" not in line][-1] == [
        "hidden", "4", "0", "done", "done", "waiting",
    ]  # fmt: skip
    assert any("3 runs: 1 waiting, 0 running, 2 done, 0 failed" in line for line in lines)


# ---- what is shown of the progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def progress_of(study: Study) -> dict[Path, Progress]:
    return {job.folder: Progress() for job in jobs_of(study)}


def test_a_terminal_is_shown_the_table_over_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "40")
    study = study_in(tmp_path, cells={"generator.hidden": [4]})
    progress, out, now = progress_of(study), Terminal(), [10.0]
    board = Board(study, progress, out, lambda line: None, lambda: now[0])
    first = jobs_of(study)[0]
    progress[first.folder] = Progress(State.RUNNING, began=3.0)
    board.changed(first)
    lines = out.getvalue().splitlines()
    assert lines[0].endswith("cell      seed  likelihood    reinforce  longer")
    assert lines[1].split() == ["hidden", "4", "0", "running", "0:07", "waiting", "waiting"]
    assert lines[-1] == "6 runs: 5 waiting, 1 running, 0 done, 0 failed"
    board.changed(None)
    assert out.getvalue().splitlines() == lines, "nothing has changed, and no time gone by"
    now[0] += 3661
    board.changed(None)
    assert out.getvalue().splitlines()[len(lines)].startswith(f"\x1b[{len(lines)}F\x1b[0J")
    assert "running 1:01:08" in out.getvalue()


def test_of_a_table_that_is_too_long_what_runs_and_what_failed_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "8")
    study = study_in(tmp_path)
    progress, out = progress_of(study), Terminal()
    failed = jobs_of(study)[-1]
    progress[failed.folder] = Progress(State.FAILED, 1.0, 2.0, "no memory")
    Board(study, progress, out, lambda line: None).changed(failed)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("hidden 6, large")
    assert "failed 0:01" in lines[1]
    assert max(map(len, lines[1:])) < 100


def test_where_there_is_no_terminal_each_change_is_a_line(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    progress, said = progress_of(study), []
    board = Board(study, progress, io.StringIO(), said.append, lambda: 100.0)
    job = jobs_of(study)[0]
    progress[job.folder] = Progress(State.FAILED, 40.0, 105.0, "no memory")
    board.changed(None)
    board.changed(job)
    assert said == ["[1/16] hidden 4, small; seed 0; likelihood: failed 1:05: no memory"]


def test_durations_are_written_as_a_clock_does() -> None:
    assert [duration(seconds) for seconds in (0, 59.9, 60, 3599, 3600, 90061)] == [
        "0:00", "0:59", "1:00", "59:59", "1:00:00", "25:01:01",
    ]  # fmt: skip


# ---- real runs


@pytest.mark.exhaustive
def test_a_study_of_two_cells_is_killed_and_goes_on_to_its_report(tmp_path: Path, capsys: Any) -> None:
    cells = {"judge": JUDGES["judge"]}
    path = write_study(tmp_path, cells=cells, seeds=1)
    folder = tmp_path / "runs" / "grid"
    command = [sys.executable, "-m", "gptgan_jax", "study", str(path), "--workers", "2"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "done" in line and "[1/" in line:
                break
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        said = process.stderr.read()
        assert process.wait() == 0
        assert time.monotonic() - begun < 60, "far from hanging; how fast this machine is, is no matter here"
    assert "stopped by SIGTERM; running runs are saved" in said
    before = {path for path in folder.glob("*/*/evaluation.json") if '"sweep": null' not in path.read_text()}
    kept = {path: path.stat().st_mtime_ns for path in before}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert finished.returncode == 0, finished.stderr
    assert kept, "one run was done"
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    heads, _, *rows = rows_of(finished.stdout)
    assert [row[:2] for row in rows] == [
        [cell, model]
        for cell in ("small", "large")
        for model in ("likelihood", "continued likelihood", "reinforce", "longer")
    ]
    assert "grammatical ↑" in heads
    assert "Jensen-Shannon ↓" in heads
    assert (folder / "report.html").is_file()
    totals = [float(row[-1].replace(",", "")) for row in rows[:4]]
    own = [float(row[-2].replace(",", "")) for row in rows[:4]]
    assert totals[0] == own[0]
    assert totals[3] == own[3], "from scratch"
    assert totals[2] == pytest.approx(own[0] + own[2], abs=0.11)
    assert not list(folder.glob("large/likelihood-*")), "shared with the first cell"
