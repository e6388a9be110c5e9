"""The notebooks and scripts of examples/ run, at a tiny size."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
TINY: dict[str, dict[str, Any]] = {
    "seqgan": {
        "VOCABULARY": 12,
        "LENGTH": 4,
        "ROWS": 8,
        "LIKELIHOOD_STEPS": 2,
        "DISCRIMINATOR_STEPS": 2,
        "ADVERSARIAL_STEPS": 1,
        "ROLLOUTS": 2,
        "TEST_TEXTS": 16,
    },
    "your_own_parts": {"ROWS": 8, "LENGTH": 5, "STEPS": 2},
    "exact_gradients": {"DRAWS": 60, "STEPS": 20, "TEMPERATURES": np.array([0.5, 1.0, 2.0])},
}


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def run(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a notebook's names are after all of its cells; its parameters are tiny."""
    matplotlib.use("Agg")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    names: dict[str, Any] = {}
    for cell in cells(EXAMPLES / f"{name}.ipynb"):
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"].get("tags", []):
                assert names.keys() >= TINY[name].keys()
                names.update(TINY[name])
    return names


def test_every_notebook_is_run_by_a_test() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(TINY)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_what_it_shows_and_holds_no_outputs(path: Path) -> None:
    found = cells(path)
    assert "".join(found[0]["source"]).startswith("# ")
    assert not [cell for cell in found if cell.get("outputs") or cell.get("execution_count")]
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in found) == 1


@pytest.mark.exhaustive
def test_a_seqgan_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("seqgan", monkeypatch)
    assert list(names["history"]) == ["untrained", "likelihood", "adversarial"]
    figures = [list(figures.values()) for figures in names["history"].values()]
    assert np.isfinite(figures).all()
    assert len(np.unique(figures, axis=0)) == 3


def test_the_step_of_a_seqgan_has_thirty_lines() -> None:
    (source,) = (
        "".join(cell["source"]) for cell in cells(EXAMPLES / "seqgan.ipynb") if "def learner" in "".join(cell["source"])
    )
    assert len([line for line in source.splitlines() if line.strip()]) <= 30


@pytest.mark.exhaustive
def test_a_discriminator_and_an_estimator_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    records = run("your_own_parts", monkeypatch)["records"]
    assert 0 <= records["adversarial_step"]["cut_off"] <= 1
    assert {"discriminator_accuracy", "kl", "cut_off"} <= records["adversarial_step"].keys()


@pytest.mark.exhaustive
def test_the_expected_gradient_is_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("exact_gradients", monkeypatch)
    assert names["total"] == pytest.approx(1, abs=1e-5)
    assert names["error"] < 1e-4 * float(np.abs(names["exact"]).max())
    assert names["variances"]["leave one out"] < names["variances"]["no baseline"]
    assert names["divergences"][1] < names["divergences"][0]
    assert names["entropy"][0] < names["entropy"][-1]


def test_the_claim_of_the_recommended_method_is_a_short_script() -> None:
    assert len((EXAMPLES / "policy_improvement.py").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.exhaustive
def test_it_prints_what_each_model_gains_with_an_interval() -> None:
    command = [sys.executable, str(EXAMPLES / "policy_improvement.py")]
    tiny = ["--seeds", "2", "--steps", "20", "4", "2", "--count", "40"]
    done = subprocess.run([*command, *tiny], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert sum(line.startswith("seed ") for line in lines) == 10
    assert [line[2:32].strip() for line in lines[-5:]] == [line[8:38].strip() for line in lines[:5]]
    assert lines[-5].endswith("+0.000 ± 0.000")  # of the likelihood model over itself
