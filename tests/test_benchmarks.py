"""The benchmarks' own arithmetic: what counts as equal, what as slower, and how near the limit a time is."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.__main__ import compared  # noqa: E402
from benchmarks.child import differences  # noqa: E402
from benchmarks.results import Result, Timing, read_ratios, table, write  # noqa: E402
from benchmarks.sides import CASES  # noqa: E402
from benchmarks.work import limit_of, parts_of  # noqa: E402

MACHINE = {
    "hardware": "a machine",
    "matmul_rate": 1e11,
    "bandwidth": 1e10,
    "cache_bandwidth": 1e11,
}


def timing(*medians: float) -> Timing:
    return Timing(medians, medians, compile=1.0, peak_bytes=2**30)


def result(ratio: float, case: str = "likelihood", **more: Any) -> Result:
    return Result(case, "a", "a step", 1.05, timing(1.0), timing(ratio), "eager", (ratio,), **more)


def test_equal_outputs_pass_and_unequal_ones_end_the_benchmark() -> None:
    x = np.linspace(-1, 1, 7, dtype=np.float32)
    apart = differences({"a": x, "n": np.arange(3)}, {"a": x + 1e-5, "n": np.arange(3)})
    assert apart["a"] == pytest.approx(1e-5, rel=0.05)
    for other in ({"a": x + 2e-3}, {"n": np.array([0, 1, 3])}, {"a": x[:-1]}, {"a": x * np.nan}):
        with pytest.raises(SystemExit, match="ours"):
            differences({"a": x, "n": np.arange(3)}, other)


def test_estimates_may_differ_by_their_errors_alone() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=1000), rng.normal(size=1000)
    assert differences({"values~": x}, {"values~": y})["values~"] < 5
    with pytest.raises(SystemExit, match="values~"):
        differences({"values~": x}, {"values~": y + 1})


def test_ratios_and_not_times_are_compared_with_the_baseline(tmp_path: Path) -> None:
    write(tmp_path / "baseline.json", MACHINE, [result(2.0), result(3.0, "sampling")])
    baseline = read_ratios(tmp_path / "baseline.json")
    assert baseline == {"likelihood": 2.0, "sampling": 3.0}
    lines = compared(baseline, [result(1.7), result(3.1, "sampling"), result(9.0, "seqgan")]).splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["SLOWER", "as before"]
    assert compared(baseline, [result(2.5)]).endswith("faster")


def test_results_of_other_cases_stay_in_the_file_and_those_of_other_machines_go(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write(path, MACHINE, [result(2.0)])
    write(path, MACHINE, [result(3.0, "sampling")])
    assert read_ratios(path) == {"likelihood": 2.0, "sampling": 3.0}
    write(path, MACHINE | {"hardware": "another"}, [result(4.0, "seqgan")])
    assert read_ratios(path) == {"seqgan": 4.0}


def test_the_likelihood_step_counts_the_flop_of_its_products() -> None:
    limit = limit_of("likelihood", MACHINE)
    tokens, width, layers, length = 32 * 64, 256, 4, 64
    products = tokens * (layers * 12 * width**2 + 5000 * width)
    attention = layers * 32 * width * length * (length + 1)  # scores and mixing, half of the square
    assert limit.flop == pytest.approx(3 * 2 * (products + attention), rel=1e-6)
    assert limit.bound == "compute"
    assert limit.seconds == pytest.approx(limit.flop / 1e11)


@pytest.mark.parametrize("case", [name for name, one in CASES.items() if not one.once])
def test_every_case_has_work_by_part_and_a_row_in_the_table(case: str) -> None:
    assert all(work.model > 0 for work in parts_of(case).values())
    limit = limit_of(case, MACHINE)
    shown = table([result(2.0, case, limit=limit)])
    assert f"{limit.seconds / 1.0:.0%} ({limit.bound})" in shown


def test_a_cached_generation_is_bound_by_the_caches_bandwidth() -> None:
    slow = limit_of("sampling", MACHINE | {"bandwidth": 1.0, "cache_bandwidth": 1e9})
    assert slow.bound == "bandwidth"
    assert slow.seconds == pytest.approx(slow.bytes / 1e9)


def test_bad_options_are_told_in_a_line() -> None:
    command = [sys.executable, "-m", "benchmarks", "--cases", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "likelihood" in done.stderr
    assert "Traceback" not in done.stderr
