"""A comparison: its file becomes runs, each trained once from one likelihood checkpoint, and one table tells of all."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import yaml
from tiny import COMPARED, write_config

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.cli import main
from gptgan_jax.config import Config
from gptgan_jax.config.files import load_config
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.reports.document import Picture
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import held_out_of, save_held_out
from gptgan_jax.runs.lock import locked
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.runs.start import read_start
from gptgan_jax.runs.trained import load_writer, restore_generator
from gptgan_jax.scoring import reranked, residual
from gptgan_jax.training.signals import NotFinite
from gptgan_jax.workflows import comparison as comparing
from gptgan_jax.workflows.comparison import Comparison, compare, load_comparison

ARMS: dict[str, Any] = {
    "reinforce": {},
    "Logit, as a preset!": {"preset": "sub/preset.yaml", "set": {"adversarial.steps": 3}},
    "constant": {"set": {"objective": {"reward": "constant", "residual_candidates": 2}}},
}
# Those of the comparison that is run.
RUN_ARMS: dict[str, Any] = {
    "reinforce": {},
    "constant, as a preset!": {
        "preset": "sub/preset.yaml",
        "set": {"adversarial.steps": 3, "objective": {"reward": "constant", "residual_candidates": 2}},
    },
}
CONTROL_SLUG = "constant-as-a-preset"
SLUGS = ("reinforce", CONTROL_SLUG)
CONSTANT = "control: constant, as a preset!"
RESAMPLED = f"{CONSTANT}, resampling instead"
RERANKED = "likelihood, best of 2"
LABELS = ["likelihood", "continued likelihood", RERANKED, "reinforce", CONSTANT, RESAMPLED, "real text"]


def write_comparison(folder: Path, **changes: Any) -> Path:
    """FOLDER/both.yaml, with its base and its preset, whose paths are of that folder."""
    write_config(folder, COMPARED)
    (folder / "sub").mkdir(exist_ok=True)
    preset = {
        "name": "not this",
        "likelihood": {"steps": 77},
        "discriminator": {"kind": "linear", "embedding": 5},
        "objective": {"reward": "logit"},
        "warmup": {"batch_size": 8},
        "adversarial": {"batch_size": 8, "generator_optimizer": {"learning_rate": 0.05}},
    }
    (folder / "sub" / "preset.yaml").write_text(yaml.safe_dump(preset))
    raw = {"base": "tiny.yaml", "seeds": 2, "set": {"adversarial.steps": 2, "warmup.steps": 1}, "arms": ARMS} | changes
    path = folder / "both.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def config_of(comparison: Comparison, arm: str, seed: int) -> Config:
    return next(comparison.arm_config(one, seed) for one in comparison.arms if one.name == arm)


# ---- the file


@pytest.fixture
def loaded(tmp_path: Path) -> Comparison:
    return load_comparison(write_comparison(tmp_path))


def test_the_base_is_likelihood_training_that_goes_on_for_as_long_as_its_adversarial_phase(loaded: Comparison) -> None:
    config = loaded.base_config(1)
    phases = ("likelihood", "continued", "warmup", "adversarial")
    assert [config.steps(phase) for phase in phases] == [4, 2, 0, 0]
    assert (config.name, config.seed) == ("likelihood-seed1", 1)
    assert Path(config.runs_folder).name == "both"


def test_the_base_has_no_discriminator_to_resample_by(tmp_path: Path) -> None:
    """Though every arm is to be judged so."""
    keys = {"adversarial.steps": 2, "warmup.steps": 1, "objective.residual_candidates": 4}
    comparison = load_comparison(write_comparison(tmp_path, set=keys, arms={"reinforce": {}}))
    assert comparison.base_config(0).objective.residual_candidates == 0
    assert config_of(comparison, "reinforce", 0).objective.residual_candidates == 4


def test_the_base_has_no_discriminator_with_classes_and_its_arms_have(tmp_path: Path) -> None:
    keys = {"data.label": "subject", "objective.classification.weight": 0.5, "adversarial.steps": 2}
    comparison = load_comparison(write_comparison(tmp_path, set=keys, arms={"reinforce": {}}))
    assert not comparison.base_config(0).classifies
    assert config_of(comparison, "reinforce", 0).classifies


def test_what_the_base_can_not_be_without_its_adversarial_phase_is_told_from_the_file(tmp_path: Path) -> None:
    keys = {
        "data.label": "subject",
        "objective.classification.weight": 0.5,
        "evaluation.choose_by": "min(valid_class_error)",
    }
    with pytest.raises(
        comparing.UserError, match=r"^\S*both.yaml: base: evaluation.choose_by min\(valid_class_error\)"
    ):
        load_comparison(write_comparison(tmp_path, set=keys, arms={"reinforce": {}}))


def test_the_base_measures_the_rewards_that_its_arms_pay(tmp_path: Path) -> None:
    rewards = [{"function": "length", "weight": 0.5}]
    comparison = load_comparison(write_comparison(tmp_path, set={"objective.rewards": rewards}, arms={"reinforce": {}}))
    assert not comparison.base.adversarial.steps
    for config in (comparison.base, config_of(comparison, "reinforce", 0)):
        assert [reward.function for reward in config.objective.rewards] == ["length"]


def test_an_arm_starts_its_adversarial_phase_from_the_likelihood_run_of_its_seed(loaded: Comparison) -> None:
    config = config_of(loaded, "reinforce", 1)
    phases = ("likelihood", "continued", "warmup", "adversarial")
    assert [config.steps(phase) for phase in phases] == [0, 0, 1, 2]
    assert config.init_from == str(RunFolder.of(loaded.base_config(1)).path)
    assert (config.init_checkpoint, config.seed, config.name) == ("likelihood", 1, "reinforce-seed1")


def test_a_preset_gives_its_method_alone_and_keys_that_are_set_win_over_it(loaded: Comparison) -> None:
    config, base = config_of(loaded, "Logit, as a preset!", 0), loaded.base_config(0)
    assert config.name == "logit-as-a-preset-seed0"
    assert config.objective.reward == "logit"
    assert config.discriminator.embedding == 5
    assert config.warmup.optimizer == Config().warmup.optimizer
    assert config.likelihood.optimizer == base.likelihood.optimizer
    assert config.steps("warmup") == 1, "set for all"
    assert config.steps("adversarial") == 3, "set for the arm, over what is set for all"
    assert (config.data, config.generator, config.evaluation) == (base.data, base.generator, base.evaluation)


def test_the_command_line_wins_over_all_files(tmp_path: Path) -> None:
    given = ["--adversarial.steps", "9", "--seed", "5", "--name", "mine"]
    comparison = load_comparison(write_comparison(tmp_path), 3, given)
    assert config_of(comparison, "Logit, as a preset!", 5).steps("adversarial") == 9
    assert comparison.base_config(5).steps("continued") == 9
    assert comparison.seeds == (5, 6, 7)
    assert comparison.arguments == ("--seeds", "3", *given)
    assert comparison.folder == tmp_path / "runs" / "mine"


def test_arms_that_are_named_are_the_only_ones_in_the_order_of_the_file(tmp_path: Path) -> None:
    comparison = load_comparison(write_comparison(tmp_path), only=["constant", "reinforce"])
    assert [arm.name for arm in comparison.arms] == ["reinforce", "constant"]
    assert comparison.arguments == ("--arm", "constant", "--arm", "reinforce")
    assert comparison.base == load_comparison(tmp_path / "both.yaml").base


def test_an_arm_that_is_misspelt_is_told_from_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(write_comparison(tmp_path))
    assert main(["compare", file, "--arm", "reinforce", "--arm", "reinforced"]) == 2
    assert f"{file}: unknown arm 'reinforced'; did you mean 'reinforce'?" in capsys.readouterr().err


def test_a_mapping_that_is_set_keeps_the_other_keys_of_its_section(tmp_path: Path) -> None:
    settings = {
        "warmup": {"steps": 3},
        "objective": {"estimator": {"kind": "rloo", "samples": 5}, "entropy_weight": 0.5},
    }
    config = config_of(load_comparison(write_comparison(tmp_path, set=settings)), "reinforce", 0)
    assert (config.warmup.steps, config.warmup.batch_size) == (3, 8)
    assert (config.objective.estimator.kind, config.objective.estimator.samples) == ("rloo", 5)
    assert config.objective.entropy_weight == 0.5


def test_a_control_is_called_one(loaded: Comparison) -> None:
    assert [arm.label for arm in loaded.arms] == ["reinforce", "Logit, as a preset!", "control: constant"]


def test_an_arm_from_scratch_is_likelihood_training_with_keys_of_its_own_from_where_the_base_begins(
    tmp_path: Path,
) -> None:
    arms = {"larger": {"from_scratch": True, "set": {"generator.hidden": 9, "likelihood.steps": 11}}, "reinforce": {}}
    comparison = load_comparison(write_comparison(tmp_path, arms=arms))
    config, base = config_of(comparison, "larger", 1), comparison.base_config(1)
    phases = ("likelihood", "continued", "warmup", "adversarial")
    assert [config.steps(phase) for phase in phases] == [11, 0, 0, 0]
    assert (config.init_from, config.seed, config.name) == (base.init_from, 1, "larger-seed1")
    same = dataclasses.replace(
        config, name=base.name, generator=base.generator, likelihood=base.likelihood, continued=base.continued
    )
    assert same == base
    assert comparison.arms[0].columns == {"larger": "likelihood"}, "and no control, whatever the base's objective is"
    assert base.generator.hidden == config_of(comparison, "reinforce", 1).generator.hidden == 4


def test_an_arm_from_scratch_may_be_larger_than_the_base_whose_discriminator_is_its_twin(tmp_path: Path) -> None:
    keys = {
        "generator": {"kind": "transformer", "layers": 1, "width": 8, "heads": 2, "max_positions": 32},
        "discriminator": {"kind": "transformer", "from_generator": True},
        "adversarial.steps": 2,
    }
    arms = {"larger": {"from_scratch": True, "set": {"generator.width": 16}}}
    comparison = load_comparison(write_comparison(tmp_path, set=keys, arms=arms))
    assert config_of(comparison, "larger", 0).generator.width == 16


# ---- the runs


class Compared(NamedTuple):
    file: Path
    printed: str

    @property
    def folder(self) -> Path:
        return self.file.parent / "runs" / "both"

    def plain(self) -> dict[str, Any]:
        return json.loads((self.folder / "comparison" / "comparison.json").read_text())


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    keys = {"adversarial.steps": 2, "warmup.steps": 1, "evaluation.best_of": 2}
    file = write_comparison(tmp_path_factory.mktemp("compare"), arms=RUN_ARMS, set=keys)
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr(Picture, "png", b"")  # pictures are tested elsewhere, and drawing takes long
        patch.setattr(residual, "OTHERS", 200)  # how well the likelihood is known is no matter here
        patch.setattr(reranked, "TEXTS_FOR_F", 200)  # nor F
        patch.setattr("builtins.print", lambda *words, **options: lines.append(" ".join(map(str, words))))
        assert main(["compare", str(file)]) == 0
    return Compared(file, "\n".join(lines))


def rows_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]


@pytest.mark.thorough
def test_the_table_has_a_row_for_each_model_and_is_printed_as_the_report_has_it(compared: Compared) -> None:
    heads, _, *rows = rows_of(compared.printed)
    assert [row[0] for row in rows] == LABELS
    assert heads[1] == "held-out NLL ↓, T=1"
    assert {"Jensen-Shannon ↓, T=1", "grammatical ↑, T chosen", "forward KL ↓, T chosen", "T chosen"} <= set(heads)
    assert rows_of((compared.folder / "comparison" / "report.md").read_text())[: len(rows) + 2] == [heads, _, *rows]
    assert f"report: {compared.folder / 'comparison' / 'report.html'}" in compared.printed
    assert (compared.folder / "comparison" / "report.html").is_file()


@pytest.mark.thorough
def test_the_figures_are_those_of_the_sweeps_of_the_runs(compared: Compared) -> None:
    likelihood, continued, best, reinforce, *_ = compared.plain()["models"]
    for model, run, column in (
        (likelihood, "likelihood", "likelihood"),
        (best, "likelihood", "reranked"),
        (continued, "likelihood", "continued"),
        (reinforce, "reinforce", "adversarial"),
    ):
        found = []
        for seed in (0, 1):
            sweep = Evaluation.load(compared.folder / f"{run}-seed{seed}").sweep
            (cell,) = [c for c in sweep.cells if c.column == column and c.temperature == 1]
            found.append(cell.test["held-out NLL"].value)
        shown = model["at_temperature_1"]["held-out NLL"]
        assert [one["value"] for one in shown["by_seed"]] == found
        assert shown["value"] == pytest.approx(np.mean(found))
        # Of 2 seeds, t is 12.706 and the standard error half their distance.
        assert shown["error"] == pytest.approx(12.706 * abs(found[0] - found[1]) / 2, rel=1e-3)
    assert likelihood["against_likelihood"] is None


@pytest.mark.thorough
def test_what_the_training_took_is_told(compared: Compared) -> None:
    models = {model["model"]: model for model in compared.plain()["models"]}
    expected = {"likelihood": (4, 0), "continued likelihood": (2, 0), "reinforce": (2, 8 + 16)}
    expected |= {CONSTANT: (3, 8 + 24), RESAMPLED: (0, 8), RERANKED: (0, 0)}
    assert {name: (model["updates"], model["texts"]) for name, model in models.items()} == expected
    assert all(model["processor_seconds"]["value"] > 0 for name, model in models.items() if name != RERANKED)
    assert models[RERANKED]["processor_seconds"]["value"] == 0  # nothing is trained for it
    assert [name for name, model in models.items() if model["controls"]] == [CONSTANT, RESAMPLED]


@pytest.mark.thorough
def test_every_arm_starts_from_the_best_likelihood_checkpoint_of_its_seed(compared: Compared) -> None:
    firsts = []
    for seed in (0, 1):
        base = RunFolder(compared.folder / f"likelihood-seed{seed}")
        run = load_writer(base)
        with Checkpoints(base.checkpoints, read_only=True) as checkpoints:
            best = restore_generator(checkpoints, checkpoints.best("likelihood"), run.config, run.generator)
        for slug in SLUGS:
            arm = RunFolder(compared.folder / f"{slug}-seed{seed}")
            assert_same_arrays(read_start(arm.checkpoints, best), best)
            config = arm.read_config()
            with Checkpoints(arm.checkpoints, read_only=True) as checkpoints:
                # The warm-up trains the discriminator alone.
                warm = restore_generator(checkpoints, checkpoints.choose("warmup"), config, run.generator)
            assert_same_arrays(warm, best)
            assert read_metrics(arm.path)[0]["phase"] == "warmup"
        firsts.append(jax.tree.leaves(best)[0])
    assert (firsts[0] != firsts[1]).any()


def assert_same_arrays(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), one, other))


@pytest.mark.thorough
def test_an_arms_own_evaluation_holds_the_baselines(compared: Compared) -> None:
    base = Evaluation.load(compared.folder / "likelihood-seed1")
    arm = Evaluation.load(compared.folder / "reinforce-seed1")
    assert [column.name for column in arm.columns][:4] == ["likelihood", "continued", "reranked", "adversarial, best"]
    assert [bool(column.run) for column in arm.columns][:4] == [True, True, True, False]
    for name in ("likelihood", "continued", "reranked"):
        # An arm has rows besides that are of its discriminator.
        mine, theirs = ({s.name: s.values[name] for s in one.scores if name in s.values} for one in (arm, base))
        assert mine == theirs != {}
        of_arm, of_base = ([c for c in one.sweep.cells if c.column == name] for one in (arm, base))
        assert of_arm == of_base != []
    report = (compared.folder / "reinforce-seed1" / "report.md").read_text()
    assert "adversarial against likelihood" in report
    assert "Baselines: likelihood, continued and reranked: figures and sweep copied from" in report


@pytest.mark.thorough
def test_the_same_command_goes_on_with_what_is_missing_and_touches_nothing_else(compared: Compared, capsys) -> None:
    before = compared.plain()
    lost = compared.folder / "reinforce-seed1"
    last = read_metrics(lost)
    shutil.rmtree(lost)
    others = {path: path.stat().st_mtime_ns for path in compared.folder.glob("*-seed*/**/*") if path.is_file()}
    assert main(["compare", str(compared.file)]) == 0
    assert others == {path: path.stat().st_mtime_ns for path in others}
    assert read_metrics(lost) == last
    assert without_times(compared.plain()) == without_times(before)
    said = capsys.readouterr().err
    assert said.count("sweep: adversarial, temperature 1") == 1
    assert "sweep: likelihood" not in said


def without_times(plain: dict[str, Any]) -> dict[str, Any]:
    models = [{key: value for key, value in one.items() if key != "processor_seconds"} for one in plain["models"]]
    return plain | {"models": models}


@pytest.mark.thorough
def test_an_arm_that_fails_is_named_and_the_others_are_compared(
    compared: Compared, tmp_path: Path, monkeypatch, capsys
):
    copy = tmp_path / "copy"
    shutil.copytree(compared.folder.parent, copy)
    shutil.rmtree(copy / "both" / f"{CONTROL_SLUG}-seed0")
    for config in copy.glob("both/*/config.yaml"):
        config.write_text(config.read_text().replace(str(compared.folder), str(copy / "both")))

    def failing(config: Config, say: Any) -> Any:
        raise NotFinite("loss not finite at step 6")

    monkeypatch.setattr(comparing, "train_run", failing)
    arguments = ["compare", str(compared.file), "--runs_folder", str(copy)]
    assert main(arguments) == 1
    written, said = capsys.readouterr()
    assert f"gptgan: {CONTROL_SLUG}-seed0 failed: loss not finite at step 6" in said
    row = next(row for row in rows_of(written) if row[0] == CONSTANT)
    assert "(1 of 2 seeds)" in row[1]
    assert "±" not in row[1]
    assert f"FAILED: {CONTROL_SLUG}-seed0" in (copy / "both" / "comparison" / "report.md").read_text()


def test_a_run_that_would_be_refused_is_so_before_the_first_is_trained(tmp_path: Path, monkeypatch) -> None:
    def nothing(config: Config, say: Any) -> Any:
        raise AssertionError("trained")

    monkeypatch.setattr(comparing, "train_run", nothing)
    path = write_comparison(tmp_path, arms={"a": {}, "b": {"set": {"warmup.optimizer.frozen": ["xyz"]}}})
    before = sorted(os.walk(tmp_path))
    with pytest.raises(comparing.UserError, match=r"both.yaml: arm b: warmup.optimizer.frozen 'xyz' matches none"):
        compare(load_comparison(path), lambda line: None)
    assert sorted(os.walk(tmp_path)) == before


@pytest.mark.thorough
def test_arms_that_began_from_another_base_are_not_compared_with_the_one_that_is_trained_anew(
    compared: Compared, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(compared.folder.parent, copy)
    for config in copy.glob("both/*/config.yaml"):
        config.write_text(config.read_text().replace(str(compared.folder), str(copy / "both")))
    comparison = load_comparison(compared.file, overrides=["--runs_folder", str(copy)])
    comparing.check_runs(comparison)
    shutil.rmtree(copy / "both" / "likelihood-seed0")
    with pytest.raises(comparing.UserError) as raised:
        comparing.check_runs(comparison)
    for line, slug in zip(raised.value.lines, SLUGS, strict=True):
        assert line.startswith(f"{copy}/both/{slug}-seed0 began from a checkpoint that {copy}/both/likelihood-seed0")
    for slug in SLUGS:
        (copy / "both" / f"{slug}-seed0" / "start.txt").unlink()  # as an earlier version left it
    comparing.check_runs(comparison)


def test_a_comparison_that_another_process_makes_is_left_alone(tmp_path: Path, monkeypatch) -> None:
    comparison = load_comparison(write_comparison(tmp_path))
    monkeypatch.setattr(comparing, "check_runs", lambda comparison: None)
    monkeypatch.setattr(comparing, "train_run", None)
    with locked(comparison.folder, print), pytest.raises(comparing.UserError, match="both is in use by a live run"):
        compare(comparison, lambda line: None)


@pytest.mark.parametrize("begun", ["likelihood-seed1", "reinforce-seed0"])
def test_other_text_than_a_run_was_begun_with_is_told_before_any_run(begun: str, tmp_path: Path) -> None:
    comparison = load_comparison(write_comparison(tmp_path, arms={"reinforce": {}}))
    configs = [comparison.base_config(1), config_of(comparison, "reinforce", 0)]
    (config,) = (config for config in configs if config.name == begun)
    experiment = load_experiment(comparison.base_config(0))
    comparing.check_runs(comparison)
    for fingerprint, same in ((held_out_of(experiment).fingerprint, True), ("another", False)):
        folder = RunFolder.of(config)
        save_held_out(folder.path, dataclasses.replace(held_out_of(experiment), fingerprint=fingerprint))
        folder.create(config, experiment.tokenizer)
        if same:
            comparing.check_runs(comparison)
            (folder.path / "teacher.txt").write_text("#of another teacher\n")
            with pytest.raises(comparing.UserError, match=r"what objective.estimator distils from has changed since"):
                comparing.check_runs(comparison)
            (folder.path / "teacher.txt").unlink()
            continue
        with pytest.raises(comparing.UserError, match=f"has changed since .*{begun} began"):
            comparing.check_runs(comparison)


def test_an_arm_that_is_paid_by_right_answers_goes_on_beside_a_base_that_reads_none(tmp_path: Path) -> None:
    """Only runs with rewards keep the right answers to training prompts, as part of their text."""
    rows = [{"q": "two cats" if i % 2 else "three cats", "a": "they run", "r": "they sit"} for i in range(40)]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    for name in ("train", "valid"):
        (tmp_path / f"{name}.jsonl").write_text(text)
    keys = {"data.kind": "hf", "data.prompt_column": "q", "data.text_column": "a", "data.answer_column": "r"}
    keys |= {f"data.{name}": str(tmp_path / f"{name}.jsonl") for name in ("train", "valid")}
    keys |= {"evaluation.task": "answer", "data.max_length": 6, "adversarial.steps": 2}
    paid = {"objective.rewards": [{"function": "exact_answer"}], "objective.dense": False}
    comparison = load_comparison(write_comparison(tmp_path, set=keys, arms={"plain": {}, "paid": {"set": paid}}))
    base = load_experiment(comparison.base_config(0))
    for config in (comparison.base_config(0), config_of(comparison, "plain", 0), config_of(comparison, "paid", 0)):
        experiment = load_experiment(config, base.tokenizer)
        folder = RunFolder.of(config)
        save_held_out(folder.path, held_out_of(experiment))
        folder.create(config, experiment.tokenizer)
        comparing.check_runs(comparison)
    assert (base.train.answers is None) != (experiment.train.answers is None)
    (tmp_path / "train.jsonl").write_text(text.replace("they sit", "they run"))
    with pytest.raises(comparing.UserError, match=r"has changed since .*paid-seed0 began"):
        comparing.check_runs(comparison)


def test_labels_that_only_the_arms_need_are_looked_for_before_the_base_is_trained(tmp_path: Path) -> None:
    keys = {"data.label": "subject", "objective.classification.weight": 0.5, "adversarial.steps": 2}
    keys |= {"objective.classification.labelled_share": 0.5}
    comparison = load_comparison(write_comparison(tmp_path, set=keys, arms={"a": {}}))
    with pytest.raises(comparing.UserError, match=r"both.yaml: arm a: .*labelled_share 0.5: every training text has"):
        comparing.check_runs(comparison)


@pytest.mark.thorough
def test_the_runs_can_be_compared_by_report_too_seeds_of_an_arm_as_one_group(
    compared: Compared, tmp_path: Path
) -> None:
    runs = [str(compared.folder / f"{slug}-seed{seed}") for slug in SLUGS for seed in (0, 1)]
    assert main(["report", *runs, "--out", str(tmp_path / "out")]) == 0
    what = rows_of((tmp_path / "out" / "report.md").read_text())[2:4]
    assert [row[1:3] for row in what] == [["2", "0, 1"], ["2", "0, 1"]]
    assert what[0][0] == "base"
    assert what[1][0].startswith("control: objective.reward: constant, ")


@pytest.mark.thorough
def test_a_runs_config_can_be_trained_by_itself(compared: Compared, tmp_path: Path) -> None:
    """An arm is an ordinary run: `train` on its config makes the same."""
    arm = compared.folder / f"{CONTROL_SLUG}-seed1"
    config = load_config(arm / "config.yaml", ["--runs_folder", str(tmp_path)])
    assert main(["train", str(arm / "config.yaml"), "--runs_folder", str(tmp_path)]) == 0
    assert read_metrics(RunFolder.of(config).path) == read_metrics(arm)
    assert dataclasses.replace(config, runs_folder=str(compared.folder)) == load_config(arm / "config.yaml")
