"""A run that fills in blanks: it trains, answers, shows what it filled, and resumes as if nothing had stopped it."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny import tiny_experiment, train_tiny

from gptgan_jax.cli import main
from gptgan_jax.data.infilling import fill
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.records import Records, read_metrics
from gptgan_jax.runs.trained import load_params, load_writer
from gptgan_jax.training.loop import train

# An LSTM that reads the blanks, and a Transformer that scores every word, over TINY's networks.
KEYS: dict[str, Any] = {
    "data.infilling.share": 0.5,
    "data.infilling.spans": "random",
    "data.infilling.copies": 2,
    "data.max_prompt_length": 6,
    **dict.fromkeys(["generator.width", "generator.heads", "generator.max_positions", "discriminator.embedding"]),
    "generator.kind": "lstm",
    "generator.encoder_layers": 1,
    "generator.embedding": 8,
    "generator.hidden": 8,
    "discriminator.kind": "transformer",
    "discriminator.layers": 1,
    "discriminator.width": 8,
    "discriminator.heads": 2,
    "discriminator.max_positions": 16,
    "objective.dense": True,
    "objective.estimator.kind": "reinforce",
    "objective.estimator.discount": 0.9,
    "objective.estimator.baseline": "learned",
    "evaluation.task": "answer",
}


@pytest.mark.thorough
def test_a_run_answers_and_fills(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = train_tiny(tmp_path, KEYS)
    assert "exact match (share)" in capsys.readouterr().out
    evaluation = Evaluation.load(run)
    assert evaluation is not None
    (signature,) = [score.signature for score in evaluation.scores if score.name == "exact match"]
    assert signature.endswith("greedy; all words")
    assert main(["sample", str(run), "--prompt", "two _ run _", "--num", "40", "--fill"]) == 0
    lines, errors = capsys.readouterr()
    filled = lines.splitlines()
    unfit = filled.count("two _ run _")
    assert len(filled) == 40
    assert 0 < unfit < 40
    assert all(line.split()[0] == "two" and line.split()[2] == "run" and len(line.split()) == 4 for line in filled)
    assert f"note: {unfit} of 40 answers did not fit" in errors
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "two _ run", "filled": "before"}\n{"prompt": "_ run _"}\n')
    for flags in ([], ["--fill"]):
        assert main(["sample", str(run), "--prompts", str(prompts), "--num", "20", *flags]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert len(rows) == 40
        if not flags:
            assert [row.get("filled") for row in rows] == 20 * ["before"] + 20 * [None]
            continue
        fits = [row for row in rows if row["filled"] is not None]
        assert fits
        assert all(row["filled"] == fill(row["prompt"], row["response"]) for row in fits)
    out = tmp_path / "out.jsonl"
    assert main(["sample", str(run), "--prompt", "_ run", "--num", "3", "--fill", "--out", str(out)]) == 0
    assert [sorted(json.loads(line)) for line in out.read_text().splitlines()] == 3 * [["filled", "prompt", "text"]]


class Killed(BaseException):
    """As sudden as SIGKILL for all that catches errors."""


@pytest.mark.thorough
def test_a_killed_run_resumes_bit_identically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, folder = tiny_experiment(tmp_path / "whole", KEYS)
    train(whole, folder, lambda line: None)
    made, other = tiny_experiment(tmp_path / "killed", KEYS)
    write = Records.write

    def dying(self: Any, phase: str, step: int, *more: Any) -> Any:
        if step == 13:
            raise Killed
        return write(self, phase, step, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Records, "write", dying)
        with pytest.raises(Killed):
            train(made, other, lambda line: None)
    assert read_metrics(other.path) != read_metrics(folder.path)
    again = load_experiment(made.config, other.read_tokenizer())
    train(again, other, lambda line: None)
    assert again.corpus.train.prompts == whole.corpus.train.prompts
    assert read_metrics(other.path) == read_metrics(folder.path)
    ends = [load_params(one, load_writer(one), "last")[0] for one in (folder, other)]
    first, second = ([np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(end)] for end in ends)
    assert first == second
