"""Small finished runs, written to disk as training and evaluation leave them."""

import dataclasses
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from gptgan_jax.config import Config, RecordsConfig
from gptgan_jax.evaluation.results import Axes, Cell, Column, Evaluation, Score, Sweep
from gptgan_jax.metrics.estimates import REAL, Estimate
from gptgan_jax.reports.run import ReportedRun, load_reported_run
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import Records

COLUMNS = ("likelihood", "continued", "adversarial")
AXES = Axes("BLEU-4", "Self-BLEU-4", "higher", "lower", "", "share")


def record(folder: Path, last: int, alarm: str = "") -> None:
    """Three phases: likelihood to step 20, warm-up to 25, then adversarial."""
    with Records.open(folder, RecordsConfig(tensorboard=False)) as records:
        for step in range(1, last + 1):
            figures = {"loss" if step <= 20 else "surrogate_loss": 5.0 / step}
            if step > 20:
                figures |= {"discriminator_loss": 0.6, "discriminator_accuracy": 0.7}
            if step > 25:
                figures |= {"entropy": 3.0, "length": 9.0, "kl": 0.01 * step}
            if step % 10 == 0:
                figures["valid_nats_per_token"] = 2.5
            phase = "likelihood" if step <= 20 else "warmup" if step <= 25 else "adversarial"
            records.write(phase, step, figures)
        if alarm:
            records.alarm("adversarial", last, alarm)


def sweep(skill: float = 0.1, columns: Sequence[str] = COLUMNS, signature: str = "20 texts") -> Sweep:
    """Seven temperatures x two top-p: hotter is more diverse and worse; the adversarial column is better by `skill`."""
    cells = []
    for column in columns:
        for top_p in (1.0, 0.9):
            for i in range(7):
                t = 0.6 + 0.1 * i - 0.2 * (1 - top_p)
                quality = 0.9 - 0.3 * t + (skill if column == "adversarial" else 0.0)
                figures = {
                    "BLEU-4": Estimate(quality, 0.01),
                    "Self-BLEU-4": Estimate(0.9 - 0.3 * t, 0.02),
                    "Fréchet distance": Estimate((t - 0.92) ** 2 + 0.1, 0.01),
                }
                cells.append(Cell(column, round(0.6 + 0.1 * i, 1), top_p, dict(figures), dict(figures)))
    real = {"BLEU-4": Estimate(0.8, 0.01), "Self-BLEU-4": Estimate(0.5), "Fréchet distance": Estimate(0.01)}
    cells.append(Cell(REAL, 1.0, 1.0, dict(real), dict(real)))
    signatures = {"BLEU-4": f"{signature}, words", "Self-BLEU-4": signature, "Fréchet distance": "mean hidden state"}
    return Sweep(cells, [AXES], {"Fréchet distance": ""}, signatures)


def evaluation(**changes: Any) -> Evaluation:
    """Two checkpoints and real text, by two scores."""
    whole = Evaluation(
        columns=[
            Column("likelihood", "likelihood/20", "least validation loss"),
            Column("adversarial, best", "adversarial/50", "least validation loss"),
        ],
        scores=[
            Score(
                "held-out NLL",
                "nats/token",
                "99 texts",
                "lower",
                {"likelihood": Estimate(2.5, 0.01), "adversarial, best": Estimate(2.6, 0.01), REAL: Estimate(2.3)},
            ),
            Score("length", "tokens", "", "real", {"likelihood": Estimate(9.0, 1.0), REAL: Estimate(9.5, 1.0)}),
        ],
        shown={"likelihood": ["text before"], "adversarial, best": ["text after"], REAL: ["true text"]},
        prompts=[],
        notes=["a note"],
    )
    return dataclasses.replace(whole, **changes)


def make_run(
    parent: Path, name: str = "a run", judged: Evaluation | None = None, last: int = 60, alarm: str = "", **keys: Any
) -> ReportedRun:
    """The run folder PARENT/NAME with so many recorded steps, read back; further keys are those of `Config`."""
    folder = RunFolder(parent / name)
    folder.path.mkdir(parents=True)
    folder.write_config(Config(name=name, runs_folder=str(parent), **keys))
    if last:
        record(folder.path, last, alarm)
    (judged or evaluation()).save(folder.path)
    return load_reported_run(folder)


class Page(HTMLParser):
    """An HTML file as its tags, its attributes, and its visible texts by the tag that they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data.strip("\n")))

    def of(self, *tags: str) -> list[str]:
        """The texts in these tags."""
        return [text for tag, text in self.texts if tag in tags]


def check_self_contained(text: str) -> Page:
    """Asserts that an HTML file needs no other and runs nothing."""
    page = Page(text)
    assert set(page.tags).isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form", "a"})
    for name, value in page.attributes:
        assert name in {"lang", "charset", "name", "content", "http-equiv", "class", "alt", "src", "title", "dir"}, name
        assert name != "src" or value.startswith("data:image/png;base64,")
    (style,) = page.of("style")
    assert "url(" not in style
    assert "@import" not in style
    return page
