"""The report shows what was recorded, nothing that was not, and no text in it can do harm."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from gptgan_jax.config import RecordsConfig
from gptgan_jax.evaluation.report import (
    Alarm,
    PhaseSpan,
    SamplePair,
    Score,
    alarms_in,
    discriminator_figure,
    escape,
    loss_figure,
    phases_in,
    score_table,
    write_report,
)
from gptgan_jax.runs.records import Records, read_metrics

PHASES = [PhaseSpan("likelihood", 0, 20), PhaseSpan("discriminator", 20, 25), PhaseSpan("adversarial", 25, 60)]


def record(folder: Path, last: int) -> None:
    with Records.open(folder, RecordsConfig(tensorboard=False)) as records:
        for step in range(1, last + 1):
            figures = {"loss" if step <= 20 else "surrogate_loss": 5.0 / step}
            if step > 20:
                figures |= {"discriminator_loss": 0.6, "discriminator_accuracy": 0.7}
            if step > 25:
                figures |= {"entropy": 3.0, "length": 9.0, "kl": 0.01 * step}
            if step % 10 == 0:
                figures["valid_nats_per_token"] = 2.5
            records.write("likelihood" if step <= 20 else "adversarial", step, figures)


def report(folder: Path, **changes: object) -> str:
    arguments: dict = {
        "title": "a run",
        "command": "python train.py x.yaml",
        "config_text": "seed: 3\n",
        "phases": PHASES,
        "scores": [],
        "samples": [],
        "alarms": [],
        "notes": [],
        **changes,
    }
    return write_report(folder, **arguments).read_text(encoding="utf-8")


def axes_of(figure: Any) -> list[Any]:
    return figure.axes


def test_a_finished_run_has_every_part_and_pictures_that_are_not_blank(tmp_path: Path) -> None:
    record(tmp_path, 60)
    text = report(
        tmp_path,
        scores=[Score("loss", {"likelihood": 2.5}, "nats/token")],
        samples=[SamplePair("before text", "after text")],
        alarms=[Alarm("adversarial", 40, "accuracy 0.97")],
        notes=["a note"],
    )
    for part in ("# a run", "- a note", "loss (nats/token)", "before text", "step 40: accuracy 0.97", "seed: 3"):
        assert part in text
    assert "```sh\npython train.py x.yaml\n```" in text
    for name in ("loss.png", "discriminator.png"):
        assert f"]({name})" in text
        pixels = imread(tmp_path / name)
        assert pixels.shape[1] == 800
        assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 50
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["discriminator.png", "loss.png"]


def test_the_curves_are_the_records(tmp_path: Path) -> None:
    record(tmp_path, 60)
    records = read_metrics(tmp_path)
    (axes,) = axes_of(loss_figure(records, PHASES))
    by_label = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert by_label["training"][:, 0].tolist() == [*range(1, 21)], "an adversarial loss is of another unit"
    assert by_label["validation"].tolist() == [[step, 2.5] for step in range(10, 61, 10)]
    assert [text.get_text() for text in axes.texts] == ["likelihood", "discriminator", "adversarial"]
    panels = axes_of(discriminator_figure(records, PHASES))
    assert [panel.lines[0].get_xdata()[0] for panel in panels] == [21, 26, 26, 26]
    assert all("(" in panel.get_ylabel() for panel in [axes, *panels]), "every axis has its unit"
    assert panels[0].get_legend().get_texts()[0].get_text() == "healthy: 0.55 to 0.95"


@pytest.mark.parametrize("missing", ["discriminator_accuracy", "entropy", "length", "kl"])
def test_a_key_that_was_not_recorded_or_never_finite_has_no_panel(missing: str) -> None:
    figures = {"discriminator_accuracy": 0.7, "entropy": 3.0, "length": 9.0, "kl": 0.1}
    records = [{"phase": "adversarial", "step": 5, **figures}]
    assert len(axes_of(discriminator_figure(records, []))) == 4
    for value in ({}, {missing: None}):
        records = [{"phase": "adversarial", "step": 5, **{k: v for k, v in figures.items() if k != missing}, **value}]
        axes = axes_of(discriminator_figure(records, []))
        assert len(axes) == 3
        assert all(len(panel.lines[0].get_xdata()) == 1 for panel in axes)


@pytest.mark.parametrize("last", [1, 19, 23])
def test_a_half_finished_run_has_the_pictures_it_can_have(tmp_path: Path, last: int) -> None:
    record(tmp_path, last)
    text = report(tmp_path, samples=[SamplePair("so far", None)])
    assert (tmp_path / "loss.png").exists()
    assert (tmp_path / "discriminator.png").exists() == ("discriminator.png" in text) == (last > 20)
    assert "after it" not in text
    assert "None fired." in text


def test_no_records_no_pictures_also_where_an_earlier_report_left_some(tmp_path: Path) -> None:
    record(tmp_path, 30)
    report(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    assert ".png" not in report(tmp_path)
    assert not list(tmp_path.glob("*.png"))


def test_texts_do_no_harm_in_the_sample_table(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> | a `b` *c* _d_ [e](f) <unk> &amp; \\| \n x \x1b[2J"
    text = report(tmp_path, samples=[SamplePair(evil, evil, prompt=evil)], notes=[evil], title=evil)
    assert "<" not in text
    assert "\x1b" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5}, "four columns whatever is in them"
    assert "`b`" not in text
    assert escape("a man & <unk>") == "a man &amp; &lt;unk&gt;"
    assert escape("[x] `#|") == "\\[x\\] &#96;\\#&#124;"


def test_a_fence_holds_whatever_the_config_contains(tmp_path: Path) -> None:
    config = "prompt: |\n  ```\n  # not a heading\n  ````\n"
    text = report(tmp_path, config_text=config)
    fences = re.findall(r"^(`+)yaml\n(.*?\n)\1$", text, flags=re.DOTALL | re.MULTILINE)
    assert fences == [("`````", config)]


def test_the_score_table_is_right_aligned_with_units_signatures_and_gaps() -> None:
    table = score_table(
        [
            Score("loss", {"likelihood": 2.25, "adversarial": 12.0, "real text": None}, "nats/token", "held out"),
            Score("BLEU-4 | <b>", {"likelihood": 0.5}),
            Score("texts", {"likelihood": 1000, "adversarial": float("nan")}, "", "all"),
        ]
    ).splitlines()
    assert len({len(line) for line in table}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]
    assert cells[0] == ["score", "likelihood", "adversarial", "real text", "measured with"]
    assert [cell.endswith(":") for cell in cells[1]] == [False, True, True, True, False]
    assert cells[2] == ["loss (nats/token)", "2.25", "12.00", "–", "held out"]
    assert cells[3] == ["BLEU-4 &#124; &lt;b&gt;", "0.500", "–", "–", ""]
    assert cells[4] == ["texts", "1,000", "nan", "–", "all"]
    assert "measured with" not in score_table([Score("loss", {"likelihood": 2.0})])


def test_phases_and_alarms_are_found_in_the_records(tmp_path: Path) -> None:
    with Records.open(tmp_path, RecordsConfig(tensorboard=False)) as records:
        records.write("likelihood", 10, {"loss": 1.0})
        records.alarm("likelihood", 10, "odd")
        records.write("adversarial", 15, {"loss": 1.0})
    found = read_metrics(tmp_path)
    assert alarms_in(found) == [Alarm("likelihood", 10, "odd")]
    assert phases_in(found) == [PhaseSpan("likelihood", 0, 10), PhaseSpan("adversarial", 10, 15)]
    assert phases_in([]) == []
