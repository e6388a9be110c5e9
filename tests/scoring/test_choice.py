"""What a phase's best checkpoint is chosen by: figures of samples, of the steps, and of a program of the user's."""

import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from tiny import GRAMMAR, tiny_config, tiny_experiment, train_tiny, write_config

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.cli import main
from gptgan_jax.config.choosing import Choice, choice_of
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.candidates import candidates
from gptgan_jax.generation.texts import Drawing, TextWriter, text_set
from gptgan_jax.metrics.ngrams import ngram_jensen_shannon
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.runs.trained import load_writer, restore_generator
from gptgan_jax.scoring.choice import _CHOICE_STREAM, SampleFigure, StepMeans
from gptgan_jax.scoring.held_out_likelihood import likelihood_of
from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.training.loop import check, train
from gptgan_jax.training.phase_run import PhaseRun
from gptgan_jax.training.signals import Interrupted

SHORT: dict[str, Any] = {
    "likelihood.steps": 4,
    "continued.steps": 0,
    "warmup.steps": 2,
    "adversarial.steps": 4,
    "evaluation.every": 2,
    "checkpoints.keep": 9,
    "evaluation.choose_samples": 12,
}
COUNTING = """
import json, os, sys
rows = [json.loads(line) for line in sys.stdin]
assert all(set(row) == {"text"} for row in rows)
open(os.environ["TOLD"], "a").write(f"{len(rows)}\\n")
if os.path.exists(os.environ["BROKEN"]):
    sys.exit("it is broken")
print("counted", len(rows))
print(sum(len(row["text"].split()) for row in rows) / len(rows))
"""


def saved_in(folder: Path) -> list[Saved]:
    with Checkpoints(RunFolder(folder).checkpoints, read_only=True) as checkpoints:
        return checkpoints.all()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Prints the mean number of words of its samples, and notes how many these were."""
    (tmp_path / "program.py").write_text(COUNTING)
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    monkeypatch.setenv("BROKEN", str(tmp_path / "broken"))
    return shlex.join([sys.executable, str(tmp_path / "program.py")])


# ---- what is said


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ("likelihood", None),
        ("task", None),
        ("max(reward/length)", Choice("reward/length", True)),
        (" min( jensen_shannon )", Choice("jensen_shannon", False)),
    ],
)
def test_a_choice_is_read(said: str, choice: Choice | None) -> None:
    assert choice_of(said) == choice


@pytest.mark.parametrize("said", ["", "reward", "max()", "max(a b)", "MAX(a)", "max(min(a))", "mean(a)"])
def test_what_is_no_choice_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=r"should be likelihood, task, or max\(NAME\) or min\(NAME\)"):
        choice_of(said)


def test_a_rank_is_least_for_the_best_and_infinite_for_what_is_no_number() -> None:
    values = [2.0, math.nan, -1.0, 5.0, math.inf]
    by_greatest = sorted(values, key=Choice("x", True).rank)
    assert by_greatest[0] == 5.0
    assert Choice("x", False).rank(-1.0) == -1.0
    assert all(Choice("x", greatest).rank(v) == math.inf for greatest in (True, False) for v in (math.nan, math.inf))


# ---- what is measured


def test_the_divergence_of_ngrams_is_scipys() -> None:
    rng = np.random.default_rng(0)
    first, second = ([[*map(str, rng.integers(0, size, 6))] for _ in range(30)] for size in (3, 4))
    for n in (1, 2):
        grams = [[tuple(t[i : i + n]) for t in side for i in range(7 - n)] for side in (first, second)]
        both = sorted({*grams[0], *grams[1]})
        counts = [[side.count(gram) for gram in both] for side in grams]
        assert ngram_jensen_shannon(first, second, n) == pytest.approx(jensenshannon(*counts) ** 2)
    assert ngram_jensen_shannon(first, first, 2) == 0
    assert ngram_jensen_shannon([["a", "b"]], [["b", "a"]], 2) == pytest.approx(math.log(2))
    assert math.isnan(ngram_jensen_shannon([["a"]], first, 2))


def test_figures_of_samples_are_those_of_the_texts_that_are_drawn(tmp_path: Path) -> None:
    """At the grammar's own text the divergence is small and all is grammatical; the network as it begins is far off."""
    experiment, _ = tiny_experiment(tmp_path, GRAMMAR | {"evaluation.choose_samples": 30})
    config, tokenizer, valid = experiment.config, experiment.tokenizer, experiment.valid
    params = jax.jit(experiment.generator.init)(jax.random.key(0), experiment.example_batch())
    writer = TextWriter(experiment.generator, tokenizer, 25, 30)
    source, likelihood = experiment.corpus.source, likelihood_of(experiment.generator)

    def measured(name: str, write: Any = writer) -> float:
        of_run = (config, valid, tokenizer, source, write, likelihood)
        return SampleFigure(Choice(name, True), *of_run).measure(params, lambda *_: None)

    texts = writer(params, config.seed + _CHOICE_STREAM, 30, Drawing()).texts
    # Those of the final table are others, of which none chose a checkpoint.
    assert len({*texts} & {*writer(params, config.seed, 30, Drawing()).texts}) < len({*texts}) / 2
    words = [text.split() for text in texts]
    assert measured("different_texts") == len(set(texts)) / 30
    assert measured("distinct_1") == pytest.approx(len({w for t in words for w in t}) / sum(map(len, words)))
    assert measured("grammatical") == np.mean([english_scenes().log_prob(text) > -math.inf for text in texts]) == 0
    assert measured("jensen_shannon") == pytest.approx(math.log(2), abs=1e-3)
    real = text_set(valid, tokenizer)
    assert measured("bigram_jensen_shannon") == ngram_jensen_shannon(words, [t.split() for t in real.texts[:30]], 2)

    def copying(*_: Any) -> Any:
        written = writer(params, config.seed, 30, Drawing())
        part = real.part(slice(30, 60))
        object.__setattr__(written, "texts", part.texts)
        object.__setattr__(written, "as_set", lambda: part)
        return written

    assert measured("grammatical", copying) == 1
    assert measured("bigram_jensen_shannon", copying) < measured("bigram_jensen_shannon")


def test_the_mean_of_steps_is_of_the_lines_since_the_last_evaluation() -> None:
    means = StepMeans("reward", 10, 3, [{"step": 11, "reward": 4.0}, {"step": 12, "reward": 9.0, "skipped": 1}])
    means.note(12, {"reward": 2.0})
    assert means.since_last_evaluation(12) == 3.0
    for step, value in ((13, 9.0), (14, 1.0), (15, 2.0)):
        means.note(step, {"reward": value, "other": 0.0})
    assert means.since_last_evaluation(13) == pytest.approx((4 + 2 + 9) / 3)
    assert means.since_last_evaluation(15) == 1.5
    means.note(17, {"reward": None})
    assert math.isnan(means.since_last_evaluation(17) or 0)
    assert StepMeans(None, 0, 1, []).since_last_evaluation(1) is None


# ---- what is chosen


@pytest.mark.thorough
def test_a_phase_is_ranked_by_the_figure_if_it_records_it_and_else_by_likelihood(tmp_path: Path) -> None:
    experiment, run_folder = tiny_experiment(tmp_path, SHORT | {"evaluation.choose_by": "min(reward)"})
    train(experiment, run_folder, lambda line: None)
    folder = run_folder.path
    lines = read_metrics(folder)
    by_step = {line["step"]: line["reward"] for line in lines if "reward" in line}
    saved = {(one.phase, one.step): one for one in saved_in(folder)}
    expected = {step: (by_step[step - 1] + by_step[step]) / 2 for step in (8, 10)}
    assert {step: one.choice_rank for (phase, step), one in saved.items() if phase == "adversarial"} == pytest.approx(
        expected, abs=1e-6
    )
    assert {one.choice_rank for (phase, _), one in saved.items() if phase != "adversarial"} == {None}
    with Checkpoints(run_folder.checkpoints, read_only=True) as checkpoints:
        columns = [candidate.as_column() for candidate in candidates(checkpoints, 0, "min(reward)")]
    chosen = {one.name: (one.checkpoint, one.chosen) for one in columns}
    assert chosen["likelihood"][1] == "least validation loss of its phase"
    best = f"adversarial/{min(expected, key=lambda step: expected[step])}"
    assert chosen["adversarial, best"] == (best, "least reward of its phase")


@pytest.mark.thorough
def test_a_program_chooses_and_one_that_fails_leaves_a_run_that_goes_on_as_if_it_had_not(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    keys = SHORT | {"evaluation.choose_by": "max(command)", "evaluation.choose_command": program}
    keys |= {"warmup.steps": 0, "adversarial.steps": 0}
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken_off").mkdir()
    whole = train_tiny(tmp_path / "whole", keys)
    assert (tmp_path / "told").read_text().split() == ["12"] * 2  # none by the final evaluation
    config = write_config(tmp_path / "broken_off", keys)
    (tmp_path / "broken").touch()
    assert main(["train", str(config)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("gptgan: evaluation.choose_command ")
    assert "ended with status 1: it is broken; step 2 is saved in" in last
    (tmp_path / "broken").unlink()
    assert main(["train", str(config)]) == 0
    other = tmp_path / "broken_off" / "runs" / "tiny"
    assert read_metrics(other) == read_metrics(whole)
    assert saved_in(other) == saved_in(whole)
    words = [line["command"] for line in read_metrics(whole) if "command" in line]
    assert [one.choice_rank for one in saved_in(whole) if one.phase != "warmup"] == pytest.approx(
        [-value for value in words], rel=1e-5
    )
    run = load_writer(RunFolder(whole))
    with Checkpoints(RunFolder(whole).checkpoints, read_only=True) as checkpoints:
        best = checkpoints.best("likelihood")
        assert best is not None
        params = restore_generator(checkpoints, best, run.config, run.generator)
    seed = run.config.seed + _CHOICE_STREAM
    texts = TextWriter(run.generator, run.tokenizer, 6, 8)(params, seed, 12, Drawing()).texts
    assert np.mean([len(text.split()) for text in texts]) == pytest.approx(max(words), rel=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("by", "stops"),
    [
        ("max(reward)", (8,)),
        pytest.param("max(reward)", (2, 8, 11), marks=pytest.mark.thorough),
        pytest.param("min(different_texts)", (2, 8, 11), marks=pytest.mark.thorough),
    ],
)
def test_a_run_that_was_stopped_ranks_as_one_that_was_not(
    by: str, stops: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = SHORT | {"evaluation.choose_by": by, "evaluation.every": 3, "adversarial.steps": 6}
    for name in ("whole", "pieces"):
        (tmp_path / name).mkdir()
    whole, folder = tiny_experiment(tmp_path / "whole", keys)
    train(whole, folder, lambda line: None)
    pieces, stopped = tiny_experiment(tmp_path / "pieces", keys)
    read = PhaseRun.read
    for step in stops:  # between two evaluations, and within the steps of a mean

        def read_and_stop(self: PhaseRun, at: int, *rest: Any, step: int = step) -> None:
            read(self, at, *rest)
            if at == step:
                self.signals.number = 15

        monkeypatch.setattr(PhaseRun, "read", read_and_stop)
        with pytest.raises(Interrupted):
            train(pieces, stopped, lambda line: None)
    monkeypatch.setattr(PhaseRun, "read", read)
    train(pieces, stopped, lambda line: None)
    assert read_metrics(folder.path) == read_metrics(stopped.path)
    ranks = [{(one.phase, one.step): one.rank for one in saved_in(one.path)} for one in (folder, stopped)]
    assert ranks[0] == {place: rank for place, rank in ranks[1].items() if place in ranks[0]}
    assert any(rank is not None for rank in ranks[0].values())


@pytest.mark.thorough
def test_a_figure_that_is_no_number_never_wins_and_the_first_of_equals_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one checkpoint kept besides the best."""
    values = iter([math.nan, 0.5, 0.25, 0.5])
    monkeypatch.setattr(SampleFigure, "measure", lambda *_: next(values))
    keys = {"likelihood.steps": 8, "warmup.steps": 0, "adversarial.steps": 0, "checkpoints.keep": 1}
    experiment, folder = tiny_experiment(tmp_path, SHORT | keys | {"evaluation.choose_by": "max(distinct_1)"})
    train(experiment, folder, lambda line: None)
    assert [one.step for one in saved_in(folder.path)] == [4, 8]
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        best = checkpoints.best("likelihood")
        assert best is not None
        assert best.step == 4
        assert [one.chosen for one in candidates(checkpoints, 0, "max(distinct_1)")] == [
            "greatest distinct_1 of its phase"
        ]


def test_where_no_checkpoint_has_a_number_the_last_is_taken_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SampleFigure, "measure", lambda *_: math.nan)
    keys = {"warmup.steps": 0, "adversarial.steps": 0}
    experiment, folder = tiny_experiment(tmp_path, SHORT | keys | {"evaluation.choose_by": "max(distinct_1)"})
    train(experiment, folder, lambda line: None)
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        (found,) = candidates(checkpoints, 0, "max(distinct_1)")
    assert (found.saved.step, found.chosen) == (4, "last of its phase, as distinct_1 never was a number")


# ---- what is refused


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"choose_by": "max(rewrd)"}, "this run records no 'rewrd'; did you mean reward? It records"),
        ({"choose_by": "max(grammatical)"}, "is for data.kind grammar without prompts"),
        ({"choose_by": "min(jensen_shannon)"}, "bigram_jensen_shannon is for any text"),
        ({"choose_by": "min(valid_class_error)"}, "set objective.classification.weight"),
        ({"choose_by": "min(valid_task_error)"}, "needs evaluation.task summary or answer"),
        ({"choose_by": "max(command)"}, "go together: give both, or neither"),
        ({"choose_command": "true"}, "go together: give both, or neither"),
        ({"choose_by": "max(command)", "choose_command": "no_such_program x"}, "there is no program 'no_such_program'"),
        ({"choose_by": "max(command)", "choose_command": "'x"}, "is no command line"),
        ({"choose_by": "max(command)", "choose_command": " "}, "choose_command is empty"),
        ({"choose_by": "max(reward)", "log_every": 3}, "leaves none in evaluation.every 2 steps"),
        ({"choose_by": "best"}, "should be likelihood, task, or max(NAME) or min(NAME)"),
    ],
)
def test_a_choice_that_can_not_be_had_is_refused_before_anything_is_written(
    keys: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = write_config(tmp_path, SHORT)
    overrides = [part for name, value in keys.items() for part in (f"--evaluation.{name}", str(value))]
    assert main(["train", str(config), *overrides]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gptgan: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "valid_class_error," not in lines[0] or "records no" not in lines[0]
    assert not (tmp_path / "runs").exists()


LABELS_ALONE: dict[str, Any] = {
    **GRAMMAR,
    "data.label": "subject",
    "objective.classification": {"weight": 1.0, "real_fake_weight": 0.0},
    "adversarial.steps": 0,
}


@pytest.mark.parametrize(
    ("keys", "by"),
    [
        ({"objective.rewards": [{"function": "length", "weight": 0.5}]}, "max(reward/length)"),
        ({"objective.rewards": [{"function": "length", "weight": 0.5}]}, "min(loss)"),
        (LABELS_ALONE, "min(loss)"),
    ],
)
def test_a_figure_of_the_steps_is_known_where_functions_pay_and_where_labels_alone_are_learned(
    keys: dict[str, Any], by: str, tmp_path: Path
) -> None:
    experiment, folder = tiny_experiment(tmp_path, SHORT | keys | {"evaluation.choose_by": by})
    check(experiment, folder)


def test_labels_alone_record_nothing_of_a_generator_that_learns_from_them(tmp_path: Path) -> None:
    experiment, folder = tiny_experiment(tmp_path, SHORT | LABELS_ALONE | {"evaluation.choose_by": "max(reward)"})
    with pytest.raises(UserError, match=r"this run records no 'reward'; it records .*gradient_norm"):
        check(experiment, folder)


@pytest.mark.parametrize("choose_by", ["max(grammatical)", "min(jensen_shannon)"])
def test_a_choice_by_the_grammar_needs_a_tokenizer_that_keeps_its_spelling(choose_by: str, tmp_path: Path) -> None:
    keys = GRAMMAR | SHORT | {"data.max_length": 150, "generator.max_positions": 160}
    keys |= {"tokenizer.kind": "character", "evaluation.choose_by": choose_by}
    for size, refused in ((None, False), (20, True)):
        experiment, folder = tiny_experiment(tmp_path, keys | {"tokenizer.vocab_size": size})
        if not refused:
            check(experiment, folder)
            continue
        with pytest.raises(UserError, match=r"of 12 validation texts are no sentences of the grammar as the tokenizer"):
            check(experiment, folder)


def test_how_long_a_program_may_take_can_be_changed_in_the_middle_of_a_run(program: str, tmp_path: Path) -> None:
    keys = SHORT | {"evaluation.choose_by": "max(command)", "evaluation.choose_command": program}
    RunFolder(tmp_path / "runs" / "tiny").path.mkdir(parents=True)
    RunFolder(tmp_path / "runs" / "tiny").write_config(tiny_config(tmp_path, keys))
    config = tiny_config(tmp_path, keys | {"evaluation.choose_timeout": 9.0})
    assert RunFolder.of(config).check(config)


@pytest.mark.thorough
def test_json_lines_have_the_prompts_that_the_samples_answer(tmp_path: Path) -> None:
    rows = [{"prompt": f"two {who}", "text": f"{what} here"} for who in ("cats", "dogs") for what in ("run", "sing")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "program.py").write_text(
        "import json, sys\nrows = [json.loads(line) for line in sys.stdin]\n"
        f"open({str(tmp_path / 'given')!r}, 'w').write(json.dumps(rows))\nprint(1)\n"
    )
    keys: dict[str, Any] = {"data.kind": "hf", "data.path": "json", "data.valid_fraction": None}
    keys |= {"data.test_fraction": None, "data.prompt_column": "prompt"}
    keys |= {f"data.{which}": str(tmp_path / "rows.jsonl") for which in ("train", "valid", "test")}
    keys |= {"evaluation.choose_by": "min(command)", "warmup.steps": 0, "adversarial.steps": 0}
    keys |= {"evaluation.choose_command": shlex.join([sys.executable, str(tmp_path / "program.py")])}
    experiment, folder = tiny_experiment(tmp_path, SHORT | keys)
    train(experiment, folder, lambda line: None)
    given = json.loads((tmp_path / "given").read_text())
    assert [row["prompt"] for row in given] == [rows[i % 4]["prompt"] for i in range(12)]
    assert all(set(row) == {"prompt", "text"} for row in given)


@pytest.mark.parametrize("unit", ["auto", "word", "character", "token"])
def test_figures_are_of_the_unit_that_the_table_has(tmp_path: Path, unit: str) -> None:
    keys = GRAMMAR | {"evaluation.choose_samples": 20, "evaluation.unit": unit, "tokenizer": {"kind": "character"}}
    experiment, _ = tiny_experiment(tmp_path, keys)
    of_run = (experiment.config, experiment.valid, experiment.tokenizer, None, lambda *_: None, lambda *_: None)
    figure = SampleFigure(Choice("distinct_1", True), *of_run)
    (found,) = figure._words(["a bc"])
    # By default as the tokenizer has it; a token is a space too.
    assert len(found) == {"word": 2, "token": 4}.get(unit, 3)
