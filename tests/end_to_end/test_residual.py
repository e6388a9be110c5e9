"""The residual model of a run: in its table and sweep, from the command line, and its control."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import train_tiny

from gptgan_jax.cli import main
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.scoring import residual

GRAMMAR = {
    "data.kind": "grammar",
    "data.train_size": 60,
    "data.valid_size": 40,
    "data.test_size": 40,
    "data.valid_fraction": None,
    "data.test_fraction": None,
    "data.max_length": 16,
    "data.max_prompt_length": 1,
    "generator.max_positions": 24,
    "objective.residual_candidates": 3,
    "evaluation.samples": 40,
}


def nll(evaluation: Evaluation) -> dict[str, float]:
    (row,) = [score for score in evaluation.scores if score.name == "held-out NLL" and score.unit == "nats/token"]
    return {name: estimate.value for name, estimate in row.values.items() if estimate.value is not None}


@pytest.fixture(autouse=True, scope="module")
def few_texts_for_z() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(residual, "OTHERS", 400)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tmp_path_factory.mktemp("residual"), GRAMMAR | {"warmup.optimizer.learning_rate": 0.3})


@pytest.mark.exhaustive
def test_the_table_and_the_sweep_have_a_column_of_their_own_for_it(run: Path) -> None:
    assert main(["evaluate", str(run), "--sweep"]) == 0
    evaluation = Evaluation.load(run)
    assert evaluation is not None
    assert evaluation.sweep is not None
    (column,) = [column for column in evaluation.columns if column.name == "residual"]
    assert column.checkpoint.startswith("warmup/")
    assert "3 texts" in column.chosen
    assert {"likelihood", "continued", "adversarial", "residual"} <= {cell.column for cell in evaluation.sweep.cells}
    found = nll(evaluation)
    assert found["residual"] != pytest.approx(found["likelihood"], abs=1e-4)
    assert found["residual"] == pytest.approx(found["likelihood"], abs=1)


@pytest.mark.exhaustive
def test_with_a_constant_reward_it_is_the_likelihood_model(tmp_path: Path) -> None:
    found = Evaluation.load(train_tiny(tmp_path, GRAMMAR | {"objective.reward": "constant"}))
    assert found is not None
    assert nll(found)["residual"] == pytest.approx(nll(found)["likelihood"], abs=1e-6)


@pytest.mark.thorough
def test_texts_are_resampled_from_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def lines(*options: str) -> list[str]:
        capsys.readouterr()
        assert main(["sample", str(run), "--num", "5", *options]) == 0
        return capsys.readouterr().out.splitlines()

    chosen = lines("--resample", "4")
    assert len(chosen) == 5
    assert lines("--resample", "4") == chosen
    assert lines("--resample", "4", "--seed", "1") != chosen


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--resample", "4", "--prompt", "the"], "--prompt"),
        (["--resample", "1"], "at least 2"),
        (["--resample", "4", "--checkpoint", "999"], "no checkpoint"),
    ],
)
def test_bad_options_are_refused_in_one_line(run, capsys, options: list[str], why: str) -> None:
    capsys.readouterr()
    assert main(["sample", str(run), *options]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1
