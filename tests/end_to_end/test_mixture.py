"""One small run on a mixture of two sources, by the command line: what it learns from, and what a user gets of it."""

import json
import random
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny import tiny_experiment, train_tiny, write_config

from gptgan_jax.cli import main
from gptgan_jax.data.batches import evaluation_batches
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.mixtures.splits import parts_of
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import load_held_out
from gptgan_jax.runs.records import Records, read_metrics
from gptgan_jax.runs.trained import load_params, load_writer
from gptgan_jax.scoring.held_out_likelihood import likelihood_of
from gptgan_jax.training import phase_run
from gptgan_jax.training.loop import train
from gptgan_jax.training.run import Run

WEIGHTS = {"news": 0.75, "verse": 0.25}


def keys(folder: Path) -> dict[str, Any]:
    """Two files whose texts share no word and are of other lengths, the smaller one of more weight."""
    rng = random.Random(0)
    for name, longest, count in (("news", 4, 60), ("verse", 20, 60)):
        words = [f"{name}{i}" for i in range(8)]
        lines = [" ".join(rng.choices(words, k=rng.randint(longest // 2, longest))) for _ in range(count)]
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    sources = [
        {"kind": "text", "train": str(folder / f"{name}.txt"), "weight": 4 * weight} for name, weight in WEIGHTS.items()
    ]
    return {
        "data.kind": "mixture",
        "data.sources": sources,
        "data.max_length": 8,
        "data.max_prompt_length": 1,
        "likelihood.packing": "concatenate",
        "warmup.batch_size": 16,
        "adversarial.batch_size": 16,
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    train_tiny(folder, keys(folder))
    return folder


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    return home / "runs" / "tiny"


@pytest.mark.exhaustive
def test_each_evaluation_has_a_figure_a_source_and_their_mean_by_the_weights(run: Path) -> None:
    lines = [line for line in read_metrics(run) if "valid_nats_per_token" in line]
    assert {line["phase"] for line in lines} == {"likelihood", "continued", "adversarial"}
    for line in lines:
        each = {name: line[f"valid_nats_per_token/{name}"] for name in WEIGHTS}
        assert line["valid_nats_per_token"] == pytest.approx(sum(WEIGHTS[name] * each[name] for name in each), rel=1e-5)
        assert each["news"] != each["verse"]


@pytest.mark.thorough
def test_a_sources_figures_are_those_of_its_own_text(run: Path) -> None:
    writer = load_writer(RunFolder(run))
    params, saved = load_params(RunFolder(run), writer, "likelihood")
    held_out = load_held_out(run, writer.generator.vocabulary)
    evaluate = likelihood_of(writer.generator)
    (line,) = [
        line
        for line in read_metrics(run)
        if (line["phase"], line["step"]) == ("likelihood", saved.step) and "valid_nats_per_token" in line
    ]
    evaluation = Evaluation.load(run)
    assert evaluation is not None
    scores = {score.name: score.values["likelihood"] for score in evaluation.scores if "likelihood" in score.values}
    total = 0.0
    for split, of in ((held_out.valid, "valid"), (held_out.test, "test")):
        for name, part in zip(WEIGHTS, parts_of(split), strict=True):
            nats = evaluate(params, evaluation_batches(part, 8)).per_token()
            if of == "valid":
                assert line[f"valid_nats_per_token/{name}"] == pytest.approx(nats.value, rel=1e-4)
            else:
                assert scores[f"held-out NLL, {name}"].value == pytest.approx(nats.value, rel=1e-4)
                assert scores[f"held-out NLL, {name}"].error == pytest.approx(nats.error, rel=1e-3)
                assert nats.value is not None
                total += WEIGHTS[name] * nats.value
    assert scores["held-out NLL"].value == pytest.approx(total, rel=1e-4)


def test_what_samples_are_compared_with_is_a_sample_of_the_mixture(run: Path) -> None:
    held_out = load_held_out(run, load_writer(RunFolder(run)).generator.vocabulary)
    evaluation = Evaluation.load(run)
    assert evaluation is not None
    (note,) = [note for note in evaluation.notes if "in the proportions of the mixture" in note]
    assert held_out.test.sources is not None
    assert held_out.test.sources.names == tuple(WEIGHTS)
    counted = int(note.split()[4])
    (bleu,) = [score for score in evaluation.scores if score.name == "BLEU-4"]
    assert f"{counted} references" in bleu.signature
    assert counted < len(held_out.test)


@pytest.mark.thorough
def test_the_report_shows_every_source(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run)]) == 0
    assert main(["report", str(run)]) == 0
    text = (run / "report.md").read_text(encoding="utf-8")
    for name in WEIGHTS:
        assert f"held-out NLL, {name}" in text
        assert f"train: {run.parents[1] / name}.txt" in text


def test_the_text_is_told_of_without_training(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(home / "tiny.yaml"), "--likelihood.steps", "40"]) == 0
    printed = capsys.readouterr()
    experiment, _ = tiny_experiment(home, keys(home) | {"likelihood.steps": 40})
    table = {line.split()[0]: line.split() for line in printed.out.splitlines()}
    assert list(table) == ["source", "news", "verse", "all"]
    for part, one in zip(parts_of(experiment.train), experiment.plan, strict=True):
        tokens = len(part.targets.tokens)
        drawn = 40 * 8 * 8 * WEIGHTS[one.name]
        assert table[one.name][3] == f"{tokens:,}"
        assert float(table[one.name][-1]) == pytest.approx(drawn / tokens, abs=0.01)
    assert "note: data.sources.news: likelihood training reads its" in printed.err
    assert "data.sources.verse: likelihood" not in printed.err
    assert main(["data", str(home / "tiny.yaml"), "--split", "valid"]) == 0
    texts = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert {text[0] for text in texts} == {"n", "v"}


class Killed(BaseException):
    """What ends a run here."""


@pytest.mark.thorough
def test_a_run_from_stores_that_was_killed_ends_like_one_that_was_not_and_reads_by_the_weights(tmp_path: Path) -> None:
    more = keys(tmp_path) | {
        "data.store": str(tmp_path / "store"),
        "likelihood.steps": 12,
        "likelihood.batch_size": 16,
        "warmup.steps": 8,
    }
    tokens: dict[str, dict[str, int]] = {}
    execute, write = phase_run.PhaseRun.execute, Records.write

    def counting(self: Any, state: Any) -> Any:
        step, decode = self.step, self.run.experiment.tokenizer.backend.id_to_token

        def counted(state: Any, batch: Any) -> Any:
            found = tokens.setdefault(self.phase, dict.fromkeys(WEIGHTS, 0))
            for row, mask in zip(np.asarray(batch.target), np.asarray(batch.target_mask), strict=True):
                # A row may be the end of a text alone.
                for name in {decode(int(i)).rstrip("0123456789") for i in row} & found.keys():
                    found[name] += int(mask.sum())
            return step(state, batch)

        self.step = counted
        return execute(self, state)

    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    experiment, whole = tiny_experiment(tmp_path / "whole", more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phase_run.PhaseRun, "execute", counting)
        train(experiment, whole, lambda line: None)
    for phase, found in tokens.items():
        # Few rows are drawn in these phases, of one text each.
        close = 0.02 if phase == "likelihood" else 0.12
        assert found["news"] / sum(found.values()) == pytest.approx(WEIGHTS["news"], abs=close), phase
    assert len(tokens) == 4
    assert [store.folder.name for store in experiment.stores] == list(WEIGHTS)

    def dying(self: Records, phase: Any, step: int, *figures: Any) -> Any:
        if step == 9:
            raise Killed
        return write(self, phase, step, *figures)

    experiment, folder = tiny_experiment(tmp_path / "killed", more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Records, "write", dying)
        with pytest.raises(Killed):
            train(experiment, folder, lambda line: None)
    train(tiny_experiment(tmp_path / "killed", more)[0], folder, lambda line: None)
    assert read_metrics(folder.path) == read_metrics(whole.path)
    params = [load_params(one, load_writer(one), "last")[0] for one in (folder, whole)]
    assert jax.tree.all(jax.tree.map(np.array_equal, *params))


def test_prompts_of_a_mixture_are_answered(tmp_path: Path) -> None:
    for name in WEIGHTS:
        right = [f"{name} {i // 10} {i % 10}" for i in range(60)]
        rows = [{"q": f"what {one}", "a": f"{name} is {i % 7} here", "r": one} for i, one in enumerate(right)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"kind": "hf", "prompt_column": "q", "text_column": "a", "answer_column": "r"}
    sources = [{**columns, "train": str(tmp_path / f"{name}.jsonl"), "weight": 1} for name in WEIGHTS]
    more = {"data.kind": "mixture", "data.sources": sources, "evaluation.task": "answer"}
    experiment, folder = tiny_experiment(tmp_path, more)
    assert experiment.conditional
    for split in (experiment.valid, experiment.test):  # an answer stays with its prompt, in the mixture's order
        prompts = split.prompt_texts(experiment.tokenizer)
        assert split.answers is not None
        assert [prompt.removeprefix("what ") for prompt in prompts] == list(split.answers)
    rewards = [{"function": "exact_answer", "weight": 1.0}]
    with pytest.raises(UserError, match="exact_answer compares with the texts of a mixture, not with its answer_col"):
        tiny_experiment(tmp_path, more | {"objective.rewards": rewards})
    del sources[0]["answer_column"]
    with pytest.raises(
        UserError, match="verse has right answers and news has none; give every source an answer_column, or no"
    ):
        tiny_experiment(tmp_path, more)
    mixed = Run(experiment, folder, lambda line: None).mixed
    assert mixed is not None
    batch, tokenizer = mixed.batch_at(0, 0, 64), experiment.tokenizer
    asked = [tokenizer.decode(row[mask].tolist()) for row, mask in zip(batch.prompt, batch.prompt_mask, strict=True)]
    told = [tokenizer.decode(row[mask].tolist()) for row, mask in zip(batch.target, batch.target_mask, strict=True)]
    assert {line.split()[0] for line in told} == set(WEIGHTS)
    assert all(line.split()[0] in question for question, line in zip(asked, told, strict=True))
    assert experiment.test.sources is not None
    assert experiment.test.first_prompts(4)


def test_the_command_tokenizes_every_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(tmp_path, keys(tmp_path) | {"data.store": str(tmp_path / "store"), "data.max_tokens": 100})
    assert main(["tokenize", str(path)]) == 0
    printed = capsys.readouterr().out
    for name, weight in WEIGHTS.items():
        tokens = json.loads((tmp_path / "store" / name / "store.json").read_text())["tokens"]
        assert 100 * weight <= tokens < 100 * weight + 21
        assert f"{tmp_path / 'store' / name}: " in printed
    assert "epochs" in printed
