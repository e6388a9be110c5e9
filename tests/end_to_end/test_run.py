"""One tiny run through all three phases, and what a user finds, samples and scores of it afterwards."""

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tiny import TINY, tiny_experiment, train_tiny, write_config

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.cli import main
from gptgan_jax.config.files import load_config
from gptgan_jax.data.batches import evaluation_batches
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import load_held_out
from gptgan_jax.runs.records import read_metrics, read_samples
from gptgan_jax.runs.trained import restore_generator
from gptgan_jax.training.loop import train
from gptgan_jax.types import Vocabulary

STEPS = 12  # of tiny's phases: 6 + 2 + 4
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.yaml and its finished run, `runs/tiny`."""
    folder = tmp_path_factory.mktemp("home")
    train_tiny(folder, {"records.tensorboard": True, "evaluation.log_every": 2})
    return folder


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    return home / "runs" / "tiny"


WRITTEN: dict[tuple[str, ...], list[str]] = {}


def sampled(run: Path, capsys, *options: str) -> list[str]:
    """The lines that `gptgan sample RUN` prints; once for each command."""
    arguments = ("sample", str(run), *options)
    if arguments not in WRITTEN:
        capsys.readouterr()
        assert main(arguments) == 0
        WRITTEN[arguments] = capsys.readouterr().out.splitlines()
    return WRITTEN[arguments]


# ---- the run folder


@pytest.mark.always
def test_the_run_folder_holds_all_that_a_run_leaves_behind(run: Path) -> None:
    kept = {path.name for path in run.iterdir()}
    assert {
        "config.yaml",
        "tokenizer",
        "checkpoints",
        "metrics.jsonl",
        "samples.txt",
        "report.md",
        "report.html",
    } <= kept
    assert {"loss.png", "discriminator.png", "tensorboard"} <= kept
    assert (run / "loss.png").read_bytes().startswith(PNG)
    assert (run / "discriminator.png").read_bytes().startswith(PNG)
    assert json.loads((run / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]["<eos>"] == 2
    assert list((run / "tensorboard").glob("events*"))
    assert not list(run.rglob("*.tmp"))


def test_the_run_folder_holds_the_whole_resolved_config(home: Path, run: Path) -> None:
    assert load_config(run / "config.yaml") == load_config(home / "tiny.yaml")


def test_metrics_have_every_phase_in_order_and_a_line_each_log_every_steps(run: Path) -> None:
    records = read_metrics(run)
    steps = [(line["phase"], line["step"]) for line in records if "gradient_norm" in line or "length" in line]
    assert steps == [(phase, step) for phase, step in phases_of_steps() if step % 2 == 0]
    measured = [line["step"] for line in records if "valid_nats_per_token" in line]
    assert measured == [2, 4, 6, 8, 12, 14], "the warm-up leaves the generator as it is"
    assert [line["step"] for line in records] == sorted(line["step"] for line in records)


def phases_of_steps() -> list[tuple[str, int]]:
    lengths = {phase: TINY[f"{phase}.steps"] for phase in ("likelihood", "continued", "warmup", "adversarial")}
    return list(enumerate_from_one(phase for phase, length in lengths.items() for _ in range(length)))


def enumerate_from_one(phases) -> list[tuple[str, int]]:
    return [(phase, step) for step, phase in enumerate(phases, 1)]


def test_what_sample_prints_it_writes_into_a_file(run: Path, capsys, tmp_path: Path) -> None:
    printed = sampled(run, capsys, "--num", "5")
    lines, rows = tmp_path / "new" / "texts.txt", tmp_path / "texts.jsonl"
    for file in (lines, rows):
        assert main(["sample", str(run), "--num", "5", "--out", str(file)]) == 0
        assert capsys.readouterr().out == f"saved: {file}, 5 lines\n"
    assert lines.read_text(encoding="utf-8").splitlines() == printed
    read = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    assert read == [{"text": text} for text in printed]


def test_samples_are_from_the_same_keys_at_each_evaluation(run: Path) -> None:
    blocks = {block.step: block.lines for block in read_samples(run)}
    assert list(blocks) == [2, 4, 6, 8, 12, 14]
    assert all(len(lines) == TINY["evaluation.shown"] for lines in blocks.values())
    assert blocks[2] != blocks[6]


def test_the_adversarial_phase_leaves_the_generator_changed_and_the_warm_up_does_not(home: Path, run: Path) -> None:
    experiment = load_experiment(load_config(run / "config.yaml"))
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        by_step = {
            saved.step: jax.tree.leaves(restore_generator(checkpoints, saved, experiment.config, experiment.generator))
            for saved in checkpoints.all()
        }
    assert all((a == b).all() for a, b in zip(by_step[6], by_step[10], strict=True))
    assert any((a != b).any() for a, b in zip(by_step[10], by_step[14], strict=True))


# ---- sample


def test_sampling_is_a_function_of_its_seed(run: Path, capsys) -> None:
    assert sampled(run, capsys) == sampled(run, capsys, "--seed", "0")
    assert sampled(run, capsys) != sampled(run, capsys, "--seed", "1")


def test_more_texts_begin_with_the_texts_of_fewer(run: Path, capsys) -> None:
    three, seven = sampled(run, capsys, "--num", "3"), sampled(run, capsys, "--num", "7")
    assert (len(three), len(seven)) == (3, 7)
    assert seven[:3] == three


def test_every_text_begins_with_the_prompt(run: Path, capsys) -> None:
    texts = sampled(run, capsys, "--prompt", "two cats", "--num", "5")
    assert len(texts) == 5
    assert all(text.startswith("two cats ") or text == "two cats" for text in texts)
    assert not any("  " in text or text != text.strip() for text in texts)


def test_an_empty_prompt_is_no_prompt(run: Path, capsys) -> None:
    assert sampled(run, capsys, "--prompt", "") == sampled(run, capsys)


def test_temperature_0_writes_one_text_over_and_over(run: Path, capsys) -> None:
    assert len(set(sampled(run, capsys, "--temperature", "0"))) == 1
    assert len(set(sampled(run, capsys, "--top-k", "1"))) == 1
    assert len(set(sampled(run, capsys, "--top-p", "0.001"))) == 1
    assert len(set(sampled(run, capsys))) > 1


@pytest.mark.thorough
def test_the_checkpoint_that_is_named_is_the_one_that_writes(run: Path, capsys) -> None:
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        best = checkpoints.best("adversarial")
    options = ("--seed", "3", "--num", "30")
    by_name = {name: sampled(run, capsys, *options, "--checkpoint", name) for name in ("4", "6", "12", "last")}
    assert by_name["last"] == by_name["12"]
    assert by_name["4"] != by_name["6"]
    assert sampled(run, capsys, *options) == sampled(run, capsys, *options, "--checkpoint", str(best.step))


def test_config_tokenizer_and_checkpoints_are_all_that_sampling_needs(run: Path, capsys, tmp_path: Path) -> None:
    expected = sampled(run, capsys)
    for name in ("tokenizer", "checkpoints"):
        shutil.copytree(run / name, tmp_path / "moved" / name)
    shutil.copy(run / "config.yaml", tmp_path / "moved")
    assert sampled(tmp_path / "moved", capsys) == expected


# ---- the score table


def table_in(report: str) -> dict[str, dict[str, str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in report.splitlines() if " | " in line]
    head = next(row for row in rows if row[0] == "score")
    return {
        row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows if len(row) == len(head) and row[0].strip("-")
    }


@pytest.mark.thorough
def test_evaluate_reproduces_the_table_of_the_report_and_adds_what_needs_a_judge(run: Path, capsys, tmp_path) -> None:
    again = tmp_path / "again"
    shutil.copytree(run, again)
    before = table_in((again / "report.md").read_text())
    capsys.readouterr()
    assert main(["evaluate", str(again)]) == 0
    printed = table_in(capsys.readouterr().out)
    after = table_in((again / "report.md").read_text())
    assert {name: after[name] for name in before} == before
    assert printed.keys() == after.keys()
    added = {
        "LM score (nats/token)",
        "reverse LM score (nats/token)",
        "Fréchet distance",
        "MAUVE",
        "classifier accuracy (share)",
    }
    assert printed.keys() - before.keys() == added


@pytest.mark.thorough
def test_a_sweep_adds_the_frontiers_and_the_verdict_to_both_reports(run: Path, capsys, tmp_path) -> None:
    again = tmp_path / "again"
    shutil.copytree(run, again)
    assert main(["evaluate", str(again), "--sweep"]) == 0
    for name in ("report.md", "report.html"):
        assert "too few runs" in (again / name).read_text()
    assert list(again.glob("frontier*.png"))
    assert "too few runs" not in (run / "report.md").read_text()


def test_the_table_has_a_column_for_each_generator_and_one_for_real_text(run: Path) -> None:
    columns = set(table_in((run / "report.md").read_text())["length (tokens)"])
    assert {"likelihood", "continued", "adversarial, best", "real text", "measured with"} <= columns


def test_the_held_out_nll_is_that_of_an_independent_computation(run: Path) -> None:
    """In float64, text by text, from the raw logits."""
    experiment = load_experiment(load_config(run / "config.yaml"))
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        best = checkpoints.best("likelihood")
        params = restore_generator(checkpoints, best, experiment.config, experiment.generator)
    nats, tokens = 0.0, 0
    for batch in evaluation_batches(experiment.test, 1):
        logits = np.asarray(experiment.generator.logits(params, batch), np.float64)[0]
        for t in np.flatnonzero(batch.target_mask[0]):
            nats += np.log(np.exp(logits[t]).sum()) - logits[t, batch.target[0, t]]
            tokens += 1
    cell = table_in((run / "report.md").read_text())["held-out NLL (nats/token)"]["likelihood"]
    assert float(cell.split(" ± ")[0]) == pytest.approx(nats / tokens, abs=6e-4)


def test_the_report_has_samples_of_before_and_after_and_the_command(run: Path) -> None:
    report = (run / "report.md").read_text()
    samples = re.sub(" +", " ", report.split("## Samples")[1])
    assert "| likelihood | continued | adversarial, best | real text |" in samples
    assert f"python train.py {run / 'config.yaml'}" in report


# ---- the same command again


def test_the_command_again_trains_nothing_and_says_that_nothing_is_left(home: Path, run: Path, capsys) -> None:
    records = [(run / name).read_bytes() for name in ("metrics.jsonl", "samples.txt")]
    checkpoints = sorted(path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*"))
    capsys.readouterr()
    assert main(["train", str(home / "tiny.yaml")]) == 0
    said = capsys.readouterr().err
    assert records == [(run / name).read_bytes() for name in ("metrics.jsonl", "samples.txt")]
    assert checkpoints == sorted(path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*"))
    assert re.search("finished|complete|done|nothing left", said.replace(str(home), "")), said


# ---- half a run


@pytest.mark.thorough
def test_half_a_run_can_be_sampled_and_evaluated(home: Path, capsys, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(home / "runs" / "tiny", half)
    shutil.rmtree(half / "checkpoints" / "adversarial")
    shutil.rmtree(half / "checkpoints" / "warmup")
    (half / "report.md").unlink()
    assert len(sampled(half, capsys, "--num", "2")) == 2
    assert main(["evaluate", str(half)]) == 0
    assert "adversarial, best" not in (half / "report.md").read_text()


# ---- every part in some run

ABSENT = None
LSTM = {"generator": {"kind": "lstm", "hidden": 4, "embedding": 4}} | dict.fromkeys(
    [f"generator.{key}" for key in ("layers", "width", "heads", "max_positions")], ABSENT
)
NO_JUDGE = {"discriminator.kind": ABSENT, "discriminator.embedding": ABSENT}
NO_FRACTIONS = {"data.valid_fraction": ABSENT, "data.test_fraction": ABSENT}
TWIN = {"kind": "transformer", "layers": 1, "width": 8, "heads": 2, "max_positions": 16, "from_generator": True}
SIZES = {"data.train_size": 30, "data.valid_size": 10, "data.test_size": 10}
SHORT = {"likelihood.steps": 2, "continued.steps": 1, "warmup.steps": 1, "adversarial.steps": 2, "evaluation.every": 9}
PARTS = {
    "the oracle, an LSTM, a CNN, no warm-up": LSTM
    | NO_FRACTIONS
    | SIZES
    | {"data.kind": "oracle", "data.vocab_size": 30, "data.hidden": 4}
    | {"discriminator.kind": "cnn", "discriminator.filters": 4, "warmup.steps": 0},
    "no likelihood phase, an MLP, whole texts, logits": LSTM
    | {"discriminator.kind": "mlp", "discriminator.hidden": 4, "likelihood.steps": 0}
    | {"objective.dense": False, "objective.reward": "logit"},
    "likelihood alone, the grammar, BPE": LSTM
    | NO_FRACTIONS
    | SIZES
    | {"data.kind": "grammar", "tokenizer.kind": "bpe", "tokenizer.vocab_size": 300}
    | {"continued.steps": 0, "warmup.steps": 0, "adversarial.steps": 0},
    "a judge from the writer, relativistic, KL, entropy": NO_JUDGE
    | {"discriminator": TWIN, "objective.pair_loss": "relativistic", "warmup.optimizer.learning_rate": 1e-30}
    | {"objective.kl_weight": 0.1, "objective.entropy_weight": 0.1},
}


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("part", PARTS, ids=lambda name: name.replace(" ", "-"))
def test_a_run_with_these_parts_trains_to_its_end_and_writes(part: str, tmp_path: Path, capsys) -> None:
    keys = SHORT | PARTS[part]
    experiment, folder = tiny_experiment(tmp_path, keys)
    train(experiment, folder, lambda line: None)
    last = sum(keys[f"{phase}.steps"] for phase in ("likelihood", "continued", "warmup", "adversarial"))
    assert read_metrics(folder.path)[-1]["step"] == last
    assert len(sampled(folder.path, capsys, "--num", "2")) == 2, "a text is a line, whatever is in it"
    if "from the writer" in part:
        assert_judge_began_as_the_writer(folder)


def assert_judge_began_as_the_writer(folder: RunFolder) -> None:
    """In the warm-up's checkpoint, whose learning rate moves nothing."""
    state = ocp.StandardCheckpointer().restore(folder.checkpoints.absolute() / "warmup" / "4" / "default")
    generator, judge = (state[player]["params"]["trunk"] for player in ("generator", "discriminator"))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), generator, judge))


CONDITIONAL = LSTM | {
    "data.kind": "hf",
    "data.text_column": "answer",
    "data.prompt_column": "question",
    "data.label_column": "mood",
    "data.valid_fraction": 0.2,
    "data.test_fraction": 0.2,
    "data.train": "rows.json",
    "generator": {"kind": "lstm", "hidden": 4, "embedding": 4, "encoder_layers": 1},
    "discriminator.kind": "mlp",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run on questions and answers."""
    folder = tmp_path_factory.mktemp("answers")
    rows = [
        {"question": f"{who} {what}", "answer": f"the {who} must {what} {n}", "mood": ["calm", "loud"][n % 2]}
        for who in ("cat", "dog", "cow")
        for what in ("run", "sit", "eat")
        for n in range(4)
    ]
    path = folder / "rows.json"
    path.write_text("\n".join(map(json.dumps, rows)))
    return RunFolder(train_tiny(folder, SHORT | CONDITIONAL | {"data.train": str(path)}))


@pytest.mark.thorough
def test_conditional_text_trains_through_all_phases(answers: RunFolder) -> None:
    assert [line["phase"] for line in read_metrics(answers.path) if "valid_nats_per_token" in line] == [
        "likelihood",
        "continued",
        "adversarial",
    ]
    first = read_samples(answers.path)[0].lines
    assert all(re.match(r"(cat|dog|cow) (run|sit|eat) -> ", line) for line in first)


@pytest.mark.thorough
def test_conditional_text_answers_the_prompt(answers: RunFolder, capsys) -> None:
    texts = sampled(answers.path, capsys, "--prompt", "cat run", "--num", "3")
    assert len(texts) == 3
    assert not any(text.startswith("cat run") for text in texts), "the answer alone, without the prompt"


def test_the_report_of_conditional_text_shows_the_prompts(answers: RunFolder) -> None:
    samples = (answers.path / "report.md").read_text().split("## Samples")[1].split("##")[0]
    (row,) = [line for line in samples.splitlines() if re.match(r"\| *1 \|", line)]
    prompt, answer = (row.strip("|").split("|")[i].strip() for i in (1, -1))
    assert re.fullmatch(r"(cat|dog|cow) (run|sit|eat)", prompt), samples
    assert re.fullmatch(rf"the {prompt.split()[0]} must {prompt.split()[1]} \d", answer), "real text answers it too"


@pytest.mark.thorough
def test_evaluate_works_from_another_folder_where_the_text_was_named_relatively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = LSTM | SHORT | {"continued.steps": 0, "warmup.steps": 0, "adversarial.steps": 0}
    write_config(tmp_path, keys)
    train_tiny(tmp_path, keys | {"runs_folder": "runs", "data.train": "corpus.txt"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", "../runs/tiny"]) == 0


# ---- several seeds


@pytest.mark.thorough
def test_seeds_are_runs_of_their_own_that_share_their_text_and_are_compared(tmp_path: Path, capsys) -> None:
    config = write_config(tmp_path, SHORT)
    assert main(["train", str(config), "--seeds", "2", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    runs = tmp_path / "runs"
    assert f"report: {runs / 'tiny-comparison' / 'report.html'}" in printed
    seeds = [load_config(runs / f"tiny-seed{seed}" / "config.yaml").seed for seed in (3, 4)]
    assert seeds == [3, 4]
    texts = [load_held_out(runs / f"tiny-seed{seed}", Vocabulary(1000)) for seed in (3, 4)]
    assert texts[0].fingerprint == texts[1].fingerprint
    assert (texts[0].test.targets.tokens == texts[1].test.targets.tokens).all()
    rows = table_in((runs / "tiny-comparison" / "report.md").read_text().split("### Likelihood")[1])
    assert "sd " in rows["held-out NLL (nats/token)"]["base"]


def test_report_of_one_run_writes_it_anew_and_of_several_compares_them(run: Path, tmp_path: Path, capsys) -> None:
    again = tmp_path / "again"
    shutil.copytree(run, again)
    (again / "report.html").unlink()
    assert main(["report", str(again)]) == 0
    assert (again / "report.html").is_file()
    assert main(["report", str(again), str(run), "--out", str(tmp_path / "both")]) == 0
    assert f"report: {tmp_path / 'both' / 'report.html'}" in capsys.readouterr().out
    assert (tmp_path / "both" / "report.md").is_file()
