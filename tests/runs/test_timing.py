"""The time that training took: of each phase, over interruptions."""

from pathlib import Path

import pytest

from gptgan_jax.runs import timing
from gptgan_jax.runs.timing import TIME_FILE, Stopwatch, TrainingTime, read_times


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What the clocks show."""
    now = {"processor": 100.0, "wall": 1000.0}
    monkeypatch.setattr(timing.time, "process_time", lambda: now["processor"])
    monkeypatch.setattr(timing.time, "monotonic", lambda: now["wall"])
    return now


def test_a_phases_time_goes_on_where_it_was_interrupted_and_others_stay(tmp_path: Path, clocks: dict) -> None:
    Stopwatch(tmp_path, "warmup", resumed=False).save()
    first = Stopwatch(tmp_path, "adversarial", resumed=False)
    clocks["processor"] += 3
    clocks["wall"] += 2
    first.save()
    first.save()
    clocks["processor"] += 50
    second = Stopwatch(tmp_path, "adversarial", resumed=True)
    clocks["processor"] += 4
    second.save()
    assert read_times(tmp_path) == {"warmup": TrainingTime(0, 0), "adversarial": TrainingTime(7, 2)}
    assert not list(tmp_path.glob("*.tmp"))


def test_a_phase_that_starts_anew_forgets_its_earlier_time(tmp_path: Path, clocks: dict) -> None:
    first = Stopwatch(tmp_path, "likelihood", resumed=False)
    clocks["processor"] += 3
    first.save()
    Stopwatch(tmp_path, "likelihood", resumed=False).save()
    assert read_times(tmp_path) == {"likelihood": TrainingTime(0, 0)}


def test_only_one_process_writes(tmp_path: Path) -> None:
    Stopwatch(tmp_path, "likelihood", resumed=False, active=False).save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[1]", '{"warmup": 3}', '{"warmup": {"wall": "x"}}', "\xff"])
def test_a_damaged_record_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / TIME_FILE).write_text(content, encoding="latin-1")
    assert read_times(tmp_path) == {}
