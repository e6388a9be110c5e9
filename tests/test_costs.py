"""Which tests are left out for what they cost."""

from pathlib import Path
from typing import Any

import costs
import pytest


class Item:
    """Of pytest's, what is looked at."""

    def __init__(self, nodeid: str, *marks: str) -> None:
        self.nodeid, self.path, self.marks = nodeid, Path(nodeid.partition("::")[0]), set(marks)

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None

    def add_marker(self, name: str) -> None:
        self.marks.add(name)


def test_costly_tests_are_left_out_unless_always_and_long_modules_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"a.py::cheap": 0.1, "b.py::dear": costs.EXHAUSTIVE, "b.py::kept": 50.0, "c.py::middling": costs.THOROUGH}
    monkeypatch.setattr(costs, "known", lambda: known)
    items: Any = [Item("a.py::new"), *map(Item, known)]
    items[3].marks.add("always")
    costs.pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == ["b.py::dear", "b.py::kept", "c.py::middling", "a.py::new", "a.py::cheap"]
    assert [item.marks for item in items] == [{"exhaustive"}, {"always"}, {"thorough"}, set(), set()]


def test_the_tests_that_are_known_are_in_files_that_there_are() -> None:
    root = Path(__file__).parents[1]
    assert [test for test in costs.known() if not (root / test.partition("::")[0]).is_file()] == []
