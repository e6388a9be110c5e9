"""The table of a comparison: figures over seeds, at temperature 1 and at the chosen one, and against likelihood."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from reported import evaluation, make_run, sweep

from gptgan_jax.config import AdversarialPhase, Config, LikelihoodPhase, ObjectiveConfig, WarmupPhase
from gptgan_jax.config.estimators import (
    DgsanConfig,
    DistillConfig,
    JsdganConfig,
    PpoConfig,
    RlooConfig,
    RolloutConfig,
)
from gptgan_jax.data.config import GrammarData
from gptgan_jax.evaluation.results import Sweep
from gptgan_jax.metrics.estimates import Estimate
from gptgan_jax.objectives.optimizers import OptimizerConfig
from gptgan_jax.reports.arms import write_arms
from gptgan_jax.reports.arms_table import LIKELIHOOD, ArmsTable, Model, spread_of
from gptgan_jax.reports.costs import Cost, cost_of
from gptgan_jax.runs.timing import TrainingTime


def estimates(*values: float | None) -> list[Estimate]:
    return [Estimate(value, 0.3) for value in values]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([2.0], "2.00 ± 0.30"),
        ([1.0, 3.0], "2.00 ± 12.71"),
        ([1.0, 2.0, 3.0], "2.00 ± 2.48"),
        ([1.0, 3.0, None], "2.00 ± 12.71 (2 of 3 seeds)"),
        ([1.0, None], "1.00 (1 of 2 seeds)"),
        ([1.0, math.inf], "∞"),
        ([None, None], "–"),
        ([], "–"),
    ],
)
def test_a_figure_over_seeds_has_its_t_interval_and_of_one_seed_its_error_over_texts(values, shown: str) -> None:
    assert spread_of(estimates(*values)).shown(2) == shown


def table_of(tmp_path: Path, sweeps: Sequence[Sweep], lost: int | None = None, last: int = 0) -> ArmsTable:
    """Likelihood and one arm; the arm's sweeps are given, one a seed."""
    runs = {
        name: {
            seed: make_run(tmp_path, f"{name}-{seed}", evaluation(sweep=one), last=last, seed=seed)
            for seed, one in enumerate(sweeps if name == "arm" else [sweep(0.0, ["likelihood"])] * len(sweeps))
            if name != "arm" or seed != lost
        }
        for name in ("base", "arm")
    }
    models = (Model(LIKELIHOOD, "likelihood", runs["base"]), Model("arm", "adversarial", runs["arm"]))
    return ArmsTable(models, tuple(range(len(sweeps))))


def test_the_gap_at_equal_diversity_is_within_seeds(tmp_path: Path) -> None:
    table = table_of(tmp_path, [sweep(skill, ["adversarial"]) for skill in (0.1, 0.2, 0.3)])
    gap = table.gap("arm")
    assert [one.value for one in gap.by_seed] == pytest.approx([0.1, 0.2, 0.3])
    assert gap.value == pytest.approx(0.2)
    assert gap.error == pytest.approx(4.302653 * 0.1 / math.sqrt(3))


def test_the_temperature_is_chosen_on_validation_text_by_each_seed(tmp_path: Path) -> None:
    colder = sweep(0.0, ["adversarial"])
    cells = []
    for cell in colder.cells:
        least = Estimate(0.0 if cell.temperature == 0.6 else 1.0)
        cells.append(dataclasses.replace(cell, valid=cell.valid | {"Fréchet distance": least}))
    table = table_of(tmp_path, [sweep(0.0, ["adversarial"]), dataclasses.replace(colder, cells=cells)])
    assert [(cell.temperature, cell.top_p) for cell in table.choices("arm")] == [(0.9, 1.0), (0.6, 1.0)]
    heads, *rows = (table.table().heads, *table.table().rows)
    assert [row[heads.index("T chosen")] for row in rows] == ["0.9", "0.6, 0.9", "–"]
    found = table.at_chosen("arm", "Fréchet distance")
    assert [one.value for one in found.by_seed] == pytest.approx([(0.9 - 0.92) ** 2 + 0.1, (0.6 - 0.92) ** 2 + 0.1])
    assert [one.value for one in table.at_one("arm", "BLEU-4").by_seed] == pytest.approx([0.6, 0.6])


def test_a_seed_that_failed_or_was_measured_otherwise_is_left_out_and_counted(tmp_path: Path) -> None:
    sweeps = [
        sweep(0.1, ["adversarial"]),
        sweep(0.1, ["adversarial"], signature="another"),
        sweep(0.1, ["adversarial"]),
    ]
    table = table_of(tmp_path, sweeps, lost=2)
    assert table.at_one("arm", "BLEU-4").shown(2) == "0.70 (1 of 3 seeds)"
    assert table.gap("arm").shown(2, sign=True) == "+0.10 (1 of 3 seeds)"
    assert table.measured_otherwise == ["arm"]


def test_an_arm_of_which_every_seed_failed_keeps_its_row(tmp_path: Path) -> None:
    table = table_of(tmp_path, [sweep(0.1, ["adversarial"])], lost=0, last=30)
    out = tmp_path / "out"
    printed = write_arms(
        table.models, table.seeds, Path("x.yaml"), out, {"arm-0": "not finite"}, command=["gptgan", "compare", "x y"]
    )
    assert "gptgan compare 'x y'" in (out / "report.md").read_text()
    (row,) = [line for line in printed.splitlines() if line.startswith("| arm ")]
    assert set(row) == set("| arm–")
    assert "FAILED: arm-0: not finite" in (out / "report.md").read_text()
    assert (out / "comparison.json").is_file()


GRAMMAR = GrammarData(max_length=20)


@pytest.mark.parametrize(
    ("estimator", "updates", "texts", "continuations"),
    [
        ({}, 30, 5 * 8 + 60 * 8, 0),
        ({"estimator": PpoConfig(epochs=4, minibatches=2)}, 8 * 30, 5 * 8 + 60 * 8, 0),
        ({"estimator": RolloutConfig(rollouts=3), "dense": False}, 30, 5 * 8 + 60 * 8, 60 * 8 * 3 * 19),
    ],
    ids=["reinforce", "ppo", "rollout"],
)
def test_an_arms_cost_counts_updates_and_texts(estimator: dict, updates: int, texts: int, continuations: int) -> None:
    optimizer = OptimizerConfig(accumulate=2)
    config = Config(
        data=GRAMMAR,
        objective=ObjectiveConfig(**estimator),
        warmup=WarmupPhase(steps=5, batch_size=8),
        adversarial=AdversarialPhase(steps=60, batch_size=8, generator_optimizer=optimizer),
    )
    times = {"likelihood": TrainingTime(9, 9), "warmup": TrainingTime(1, 9), "adversarial": TrainingTime(2, 9)}
    assert cost_of(config, times, "adversarial") == Cost(3, updates, texts, continuations)
    assert cost_of(config, {"warmup": TrainingTime(1, 9)}, "adversarial").processor_seconds is None
    assert cost_of(config, times, "likelihood") == Cost(9, 1000, 0, 0)


@pytest.mark.parametrize(("on_policy", "texts"), [(1.0, 40), (0.5, 40), (0.0, 0)])
def test_who_distils_on_real_texts_writes_none(on_policy: float, texts: int) -> None:
    phases = {"likelihood": LikelihoodPhase(steps=0), "warmup": WarmupPhase(steps=0)}
    objective = ObjectiveConfig(estimator=DistillConfig(teacher="hf:x", on_policy=on_policy))
    config = Config(**phases, objective=objective, adversarial=AdversarialPhase(steps=10, batch_size=4))
    assert cost_of(config, {}, "adversarial").texts == texts


@pytest.mark.parametrize(("estimator", "texts"), [(JsdganConfig(), 0), (DgsanConfig(), 40)])
def test_who_judges_real_texts_alone_writes_none(estimator: Any, texts: int) -> None:
    phases = {"likelihood": LikelihoodPhase(steps=0), "warmup": WarmupPhase(steps=0)}
    objective = ObjectiveConfig(estimator=estimator)
    config = Config(**phases, objective=objective, adversarial=AdversarialPhase(steps=10, batch_size=4))
    assert cost_of(config, {}, "adversarial").texts == texts


def test_groups_that_may_be_drawn_again_count_at_their_most() -> None:
    phases = {"likelihood": LikelihoodPhase(steps=0), "warmup": WarmupPhase(steps=0)}
    paid = [{"function": "length"}]
    objective = ObjectiveConfig(estimator=RlooConfig(samples=2), resample_groups=3, rewards=paid, dense=False)
    config = Config(**phases, objective=objective, adversarial=AdversarialPhase(steps=10, batch_size=4))
    assert cost_of(config, {}, "adversarial").texts == 10 * 4 * 2 * 4


def test_more_updates_of_the_discriminator_need_more_texts() -> None:
    phases = {"likelihood": LikelihoodPhase(steps=0), "warmup": WarmupPhase(steps=0)}
    config = Config(**phases, adversarial=AdversarialPhase(steps=10, batch_size=4, discriminator_updates=3))
    assert cost_of(config, {}, "adversarial") == Cost(None, 10, 120, 0)


def test_the_residual_model_costs_its_warm_up_and_no_update() -> None:
    config = Config(warmup=WarmupPhase(steps=5, batch_size=8))
    times = {"warmup": TrainingTime(1, 9), "adversarial": TrainingTime(2, 9)}
    assert cost_of(config, times, "residual") == Cost(1, 0, 40, 0)
