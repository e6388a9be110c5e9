"""`gptgan train --dry-run`: what it tells is what the run has, and nothing is written."""

import re
from pathlib import Path

import jax
import pytest
from tiny import tiny_config, tiny_experiment

from gptgan_jax.checkpoints.manager import state_bytes
from gptgan_jax.cli import main
from gptgan_jax.errors import UserError
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.held_out import held_out_of, save_held_out
from gptgan_jax.training.phases import build_gan
from gptgan_jax.training.run import Run
from gptgan_jax.workflows.preview import preview


def test_it_tells_text_parameters_memory_and_files_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = tiny_config(tmp_path, {"data.max_length": 3, "data.long_documents": "cut"})
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", str(tmp_path / "tiny.yaml"), "--dry-run"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    lines = capsys.readouterr().out.splitlines()
    experiment = load_experiment(config)
    train = next(line for line in lines if line.startswith("train: "))
    tokens, cut = len(experiment.train.targets.tokens), experiment.train.cut_share
    assert f"{len(experiment.train):,} texts, {tokens:,} tokens" in train
    assert cut > 0
    assert f"{cut:.1%} cut off" in train
    gan = build_gan(config, "adversarial", experiment.generator, experiment.discriminator)
    state = jax.eval_shape(lambda key: gan.init(key, experiment.example_batch()), jax.random.key(0))
    for role in ("generator", "discriminator"):
        count = sum(x.size for x in jax.tree.leaves(getattr(state, role).params))
        assert any(line.startswith(f"{role}: ") and f"{count:,} parameters" in line for line in lines)
    adversarial = next(line for line in lines if line.startswith("adversarial "))
    assert f"{state_bytes((state.generator.params, state.discriminator.params)) / 1e6:,.1f} MB" in adversarial
    assert any(line.startswith(f"would write {config.runs_folder}/tiny: config.yaml") for line in lines)
    assert lines[-1] == "nothing was written"


def test_what_training_would_refuse_it_refuses(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape("likelihood.optimizer.frozen")):
        preview(tiny_config(tmp_path, {"likelihood.optimizer.frozen": ["nothing/*"]}), lambda line: None)


def test_a_run_whose_text_has_changed_is_refused_as_training_would(tmp_path: Path) -> None:
    experiment, folder = tiny_experiment(tmp_path)
    save_held_out(folder.path, held_out_of(experiment))
    folder.create(experiment.config, experiment.tokenizer)
    assert any(line.startswith("would resume ") for line in preview(experiment.config, lambda line: None))
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(corpus.read_text().replace("two cats", "two dogs"))
    with pytest.raises(UserError, match=r"the text behind data\.train or data\.valid has changed since"):
        preview(experiment.config, lambda line: None)


def test_a_run_whose_teacher_has_changed_is_refused_as_training_would(tmp_path: Path) -> None:
    experiment, folder = tiny_experiment(tmp_path)
    save_held_out(folder.path, held_out_of(experiment))
    folder.create(experiment.config, experiment.tokenizer)
    (folder.path / "teacher.txt").write_text("#of another teacher\n")
    with pytest.raises(UserError, match=r"what objective\.estimator distils from has changed since"):
        preview(experiment.config, lambda line: None)


def test_checkpoints_are_counted_of_the_phases_that_are_run(tmp_path: Path) -> None:
    keys = {"continued.steps": 0, "warmup.steps": 0, "checkpoints.keep": 3}
    run = Run(*tiny_experiment(tmp_path, keys), lambda line: None)
    states = [state_bytes(run.target(phase)) for phase in ("likelihood", "adversarial")]
    assert run.checkpoint_bytes() == (3 + 2) * sum(states)


def test_with_a_token_store_neither_store_nor_tokenizer_is_written(tmp_path: Path) -> None:
    keys = {"data.store": str(tmp_path / "store"), "likelihood.packing": "concatenate"}
    lines = preview(tiny_config(tmp_path, keys), lambda line: None)
    assert f"token store: {tmp_path / 'store'}" in lines
    assert not (tmp_path / "store").exists()
    experiment, folder = tiny_experiment(tmp_path, keys)  # which makes the store
    save_held_out(folder.path, held_out_of(experiment))
    folder.create(experiment.config, experiment.tokenizer)
    lines = preview(experiment.config, lambda line: None)
    assert any(line.startswith("would resume ") for line in lines), "its text is compared without the store"
