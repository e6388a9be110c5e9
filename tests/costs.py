"""Which tests `make test` and `.ci/run` run, by what each of them costs: tests/costs.json has all above a limit.

    make exhaustive ARGS="-m 'not torture' --costs"     # measures every test; nothing else should run

A cost is in processor seconds, those of child processes included. A fixture that tests share counts in equal parts.
"""

import json
import resource
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).with_suffix(".json")
THOROUGH, EXHAUSTIVE = 0.4, 1.2
"""From so many seconds on `make test` leaves a test out, and `.ci/run` too, unless it is marked `always`."""

_own: Counter[str] = Counter()
_shared: Counter[tuple[str, str]] = Counter()
_users: dict[str, list[tuple[str, str]]] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", action="store_true", help=f"measure the tests' costs for {FILE.name}")


def known() -> dict[str, float]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


@pytest.hookimpl(tryfirst=True)  # before pytest itself leaves out what is marked
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks costly tests, and puts the modules of many seconds first.

    Whole modules go to the two workers of `make test`, and at the end one of them would wait for the other.
    """
    costs = known()
    of_module: Counter[Path] = Counter()
    for item in items:
        cost = costs.get(item.nodeid, 0.0)
        of_module[item.path] += cost
        if cost >= THOROUGH and item.get_closest_marker("always") is None:
            item.add_marker("exhaustive" if cost >= EXHAUSTIVE else "thorough")
    items.sort(key=lambda item: -of_module[item.path])


def _seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    defined = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    _users[item.nodeid] = [_name(ones[-1]) for ones in defined.values() if ones[-1].scope != "function"]
    before, shared = _seconds(), _shared.total()
    result = yield
    _own[item.nodeid] += _seconds() - before - (_shared.total() - shared)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
    before, nested = _seconds(), _shared.total()
    result = yield
    if fixturedef.scope != "function":
        _shared[_name(fixturedef)] += _seconds() - before - (_shared.total() - nested)
    return result


def _name(fixture: Any) -> tuple[str, str]:
    return fixture.baseid, fixture.argname


def _measured() -> dict[str, float]:
    users = Counter(fixture for fixtures in _users.values() for fixture in fixtures)
    parts = {fixture: seconds / max(users[fixture], 1) for fixture, seconds in _shared.items()}
    return {test: own + sum(parts.get(fixture, 0.0) for fixture in _users[test]) for test, own in _own.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    """What a worker of pytest-xdist has measured, in the process that started it."""
    _own.update(getattr(node, "workeroutput", {}).get("costs", {}))
    _users.update({test: [] for test in _own})


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.getoption("--costs"):
        return
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["costs"] = _measured()
        return
    costs = known() | _measured()
    kept = {test: round(cost, 1) for test, cost in sorted(costs.items()) if cost >= THOROUGH}
    FILE.write_text(json.dumps(kept, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
