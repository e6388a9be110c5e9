"""Runs that are paid by functions of their texts: columns, workers, what goes wrong, and going on where one stopped."""

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny import tiny_experiment, write_config, write_corpus

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.cli import main
from gptgan_jax.config.checking import config_from
from gptgan_jax.errors import UserError
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.text_rewards.host import HostReward
from gptgan_jax.training import phase_run
from gptgan_jax.training.loop import train
from gptgan_jax.training.run import Run

MINE = '''
"""Reward functions of a user's."""

calls = []


def of_row(texts, prompts, references, columns, tokens):
    """0 where all that is given belongs to one row."""
    calls.append((list(texts), list(prompts), list(references), dict(columns)))
    return [
        float(f"{prompt} {real}" != row or number != len(real)) for prompt, real, row, number in
        zip(prompts, references, columns["row"], columns["number"], strict=True)
    ]


def words(texts, scale=1.0):
    return [scale * len(text.split()) for text in texts]


def failing(texts):
    if len(calls) == 2:
        return [1 / 0 for text in texts]
    calls.append(texts)
    return [0.0] * len(texts)


def no_number(texts):
    return [float("nan")] * len(texts)
'''
SHORT: dict[str, Any] = {
    "likelihood.steps": 2, "continued.steps": 0, "warmup.steps": 1, "adversarial.steps": 4, "evaluation.every": 2,
    "discriminator.kind": "linear",
}  # fmt: skip


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The user's module, under a name that no other test has."""
    name = f"rewards_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield __import__(name)
    sys.modules.pop(name, None)


def silently(line: str) -> None:
    pass


def figures(folder: Path, name: str) -> list[float]:
    return [line[name] for line in read_metrics(folder) if name in line]


def keys_of(*rewards: dict[str, Any], **more: Any) -> dict[str, Any]:
    return SHORT | {"objective.rewards": list(rewards)} | more


@pytest.mark.thorough
def test_a_function_sees_prompt_real_text_and_columns_of_the_row_that_is_answered(mine: Any, tmp_path: Path) -> None:
    """With several texts a prompt and several updates of the discriminator, and a replay that knows no rows."""
    words = itertools.product(["cats", "dogs", "birds", "cows"], ["run", "eat", "sing"], ["here", "now"])
    rows = [
        {"prompt": one, "text": f"{two} {three}", "row": f"{one} {two} {three}", "number": len(f"{two} {three}")}
        for one, two, three in words
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = keys_of(
        {"function": f"{mine.__name__}:of_row", "name": "mixed_up"},
        **{
            "data.kind": "hf", "data.path": "json", "data.train": str(file), "data.prompt_column": "prompt",
            "data.reward_columns": ["row", "number"], "objective.estimator": {"kind": "grpo", "samples": 2},
            "adversarial.discriminator_updates": 2, "objective.replay_size": 16, "objective.dense": False,
        },
    )  # fmt: skip
    experiment, folder = tiny_experiment(tmp_path, keys)
    train(experiment, folder, silently)
    assert figures(folder.path, "reward/mixed_up") == [0.0] * 4
    assert len(mine.calls) == 4
    texts, prompts, *_ = mine.calls[0]
    assert len(texts) == 16
    assert prompts[::2] == prompts[1::2]
    assert len(set(prompts)) > 1


def state(experiment: Any, folder: Any) -> dict[str, bytes]:
    run = Run(experiment, folder, silently)
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        saved = checkpoints.choose("last")
        restored = checkpoints.restore(saved, run.target(saved.phase)).replace(key=None)
    leaves = jax.tree_util.tree_leaves_with_path(restored)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


@pytest.mark.exhaustive
def test_a_run_goes_on_to_the_bit_where_it_was_stopped_and_whatever_the_workers(mine: Any, tmp_path: Path) -> None:
    def keys(workers: int) -> dict[str, Any]:
        return keys_of(
            {"function": f"{mine.__name__}:words", "options": {"scale": 0.5}, "workers": workers,
             "schedule": {"end": 0.0, "steps": 3}},
            {"function": "length", "options": {"target": 3}, "weight": -0.1},
            **{"objective.reward_scaling": "batch", "data.train": str(tmp_path / "corpus.txt")},
        )  # fmt: skip

    write_corpus(tmp_path / "corpus.txt")
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
    experiment, folder = tiny_experiment(tmp_path / "whole", keys(0))
    train(experiment, folder, silently)
    other, resumed = tiny_experiment(tmp_path / "resumed", keys(2))

    class Killed(BaseException):
        pass

    step_after = phase_run.PhaseRun.keep

    def dying(self: Any, now: Any, *rest: Any) -> None:
        step_after(self, now, *rest)
        if int(now.step) == 5:
            self.checkpoints.wait()
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phase_run.PhaseRun, "keep", dying)
        with pytest.raises(Killed):
            train(other, resumed, silently)
    train(other, resumed, silently)
    assert state(experiment, folder) == state(other, resumed)
    assert read_metrics(folder.path) == read_metrics(resumed.path)
    assert len(figures(folder.path, "reward/words")) == 4


@pytest.mark.thorough
@pytest.mark.parametrize(("function", "after"), [("failing", "adversarial/5"), ("no_number", "warmup/3")])
def test_a_function_that_fails_ends_the_run_in_one_line_and_the_last_checkpoint_is_kept(
    function: str, after: str, mine: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = write_config(tmp_path, keys_of({"function": f"{mine.__name__}:{function}"}))
    assert main(["train", str(config)]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gptgan: reward {function} ")
    assert " the text '" in line
    assert line.endswith(f"; the last checkpoint is {after}")
    with Checkpoints(tmp_path / "runs" / "tiny" / "checkpoints", read_only=True) as checkpoints:
        saved = checkpoints.latest()
        assert saved is not None
        assert f"{saved.phase}/{saved.step}" == after


@pytest.mark.thorough
def test_workers_end_with_the_run(mine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    values = HostReward.values

    def noting(self: HostReward, texts: Any) -> Any:
        found = values(self, texts)
        assert self._workers is not None
        started.extend(process for process, _ in self._workers.pairs)
        return found

    monkeypatch.setattr(HostReward, "values", noting)
    keys = keys_of({"function": f"{mine.__name__}:words", "workers": 1}, **{"adversarial.steps": 1})
    train(*tiny_experiment(tmp_path, keys), silently)
    assert started
    assert not any(process.is_alive() for process in started)


# ---- configurations


PAID: dict[str, Any] = {"name": "x", "objective": {"rewards": [{"function": "length"}]}}


def with_keys(objective: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return PAID | {"objective": PAID["objective"] | objective} | sections


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (with_keys({"rewards": [{"function": "lenght"}]}), "function 'lenght' is none of exact_answer, length, "),
        (with_keys({"rewards": [{"weight": 1}]}), "objective.rewards.0.function: field required"),
        (with_keys({"rewards": [{"function": "length", "wieght": 1}]}), "did you mean 'objective.rewards.0.weight'"),
        (with_keys({"rewards": [{"function": "length", "options": {"goal": 3}}]}), "its options are target, unit"),
        (with_keys({"rewards": [{"function": "pattern"}]}), "missing a required argument: 'pattern'"),
        (with_keys({"rewards": [{"function": "length"}] * 2}), "two are called length"),
        (with_keys({"rewards": [{"function": "length", "name": "a b"}]}), "name 'a b' should be letters"),
        (with_keys({"rewards": [{"function": "bleu", "workers": 2}]}), "which no worker sees"),
        (with_keys({"rewards": [{"function": "exact_answer"}]}), "this data has none"),
        (with_keys({"rewards": [{"function": "json:nothing"}]}), "'json:nothing' should be module:name and importable"),
        (with_keys({"rewards": [{"function": "json:__name__"}]}), "json:__name__ is str, and should be a function"),
        (with_keys({"rewards": [{"function": "json:dumps", "options": {"obj": 1}}]}), "multiple values"),
        (with_keys({"rewards": []}) | {"data": {"kind": "hf", "reward_columns": ["a"]}}, "there are none; drop it"),
        (with_keys({"estimator": {"kind": "gumbel"}}), "objective.estimator gumbel differentiates the discriminator"),
        (with_keys({"estimator": {"kind": "spin"}}, warmup={"steps": 0}), "leave objective.rewards out"),
        (
            with_keys({"estimator": {"kind": "maligan"}, "reward": "logit", "dense": False}),
            "weighs texts by what the discriminator says",
        ),
        (with_keys({"resample_groups": 2}), "objective.estimator reinforce writes one"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_what_would_be_right(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as told:
        config_from(raw)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_a_function_that_takes_columns_needs_their_names(tmp_path: Path, mine: Any) -> None:
    experiment, folder = tiny_experiment(tmp_path, keys_of({"function": f"{mine.__name__}:of_row"}))
    with pytest.raises(UserError, match=r"of_row takes columns; name those that it needs in data\.reward_columns"):
        train(experiment, folder, silently)
    assert not folder.path.exists()
