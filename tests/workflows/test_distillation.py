"""Prompts into a file, a teacher's responses to them, and a student that is judged by the right answers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from hf_folders import write_model
from tiny import TINY, train_tiny, write_config

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.retention import METRIC, TASK_METRIC, rank_of
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.cli import main
from gptgan_jax.config.files import load_config
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.generation.texts import Drawing, TextWriter
from gptgan_jax.metrics.estimates import REAL
from gptgan_jax.pretrained.families import read_network
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.runs.trained import load_params, load_writer, restore_generator
from gptgan_jax.sources.grammar_tasks import answer_to
from gptgan_jax.workflows.run import train_run

GRAMMAR: dict[str, Any] = {
    "data.kind": "grammar",
    "data.task": "condense",
    "data.valid_fraction": None,
    "data.test_fraction": None,
    "data.train_size": 40,
    "data.valid_size": 20,
    "data.test_size": 20,
    "data.max_length": 16,
    "data.max_prompt_length": 24,
    "generator.max_positions": 48,
}
TEACHER = GRAMMAR | {"continued.steps": 0, "warmup.steps": 0, "adversarial.steps": 0}


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that answers prompts; beside it, what it answered."""
    root = tmp_path_factory.mktemp("teacher")
    folder = train_tiny(root, TEACHER)
    for which in ("train", "valid", "test"):
        prompts = root / f"{which}_prompts.jsonl"
        command = ["data", str(root / "tiny.yaml"), "--data.seed", "1", "--split", which, "--out", str(prompts)]
        assert main(command) == 0
        out = ["--prompts", str(prompts), "--out", str(root / f"{which}.jsonl")]
        assert main(["sample", str(folder), *out, "--batch-size", "8"]) == 0
    return folder


@pytest.mark.thorough
def test_the_prompts_are_those_of_the_split_with_their_right_answers(teacher: Path) -> None:
    rows = read(teacher.parents[1] / "train_prompts.jsonl")
    assert len(rows) == 40
    assert [row["answer"] for row in rows] == [answer_to("condense", row["prompt"]) for row in rows]
    tests = read(teacher.parents[1] / "test_prompts.jsonl")
    assert len(tests) == 20
    assert tests[0] != rows[0]


@pytest.mark.thorough
def test_the_responses_are_the_samplers_in_the_order_of_the_prompts(teacher: Path) -> None:
    rows, prompts = read(teacher.parents[1] / "train.jsonl"), read(teacher.parents[1] / "train_prompts.jsonl")
    assert [{**row, "response": None} for row in rows] == [{**row, "response": None} for row in prompts]
    folder = RunFolder(teacher)
    run = load_writer(folder)
    params, _ = load_params(folder, run)
    asked = run.tokenizer.encode_prompts([row["prompt"] for row in prompts])
    written = TextWriter(run.generator, run.tokenizer, 16, 8)(params, 0, 40, Drawing(), asked)
    assert [row["response"] for row in rows] == written.texts
    assert len(set(written.texts)) > 20


def test_equal_seeds_answer_alike_and_several_answers_stand_together(teacher: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "asked.csv"
    file.write_text("ask,id\nthe man walks .,7\nthe dog eats .,8\n")
    command = ["sample", str(teacher), "--prompts", str(file), "--prompt-column", "ask", "--num", "3"]
    assert main(command) == 0
    first = capsys.readouterr().out
    rows = [json.loads(line) for line in first.splitlines()]
    assert [(row["ask"], row["id"]) for row in rows] == [("the man walks .", "7")] * 3 + [("the dog eats .", "8")] * 3
    assert len({row["response"] for row in rows}) > 3
    assert main(command) == 0
    assert capsys.readouterr().out == first
    assert main([*command, "--seed", "1"]) == 0
    assert capsys.readouterr().out != first


def test_of_a_prompt_that_is_too_long_the_end_is_read_as_in_training(teacher: Path, tmp_path: Path, capsys) -> None:
    words = " ".join(["the"] * 30)
    (tmp_path / "short.txt").write_text(" ".join(["the"] * 24) + "\n")
    (tmp_path / "long.txt").write_text(f"{words}\n")
    texts = []
    for name in ("short.txt", "long.txt"):
        assert main(["sample", str(teacher), "--prompts", str(tmp_path / name)]) == 0
        printed = capsys.readouterr()
        texts.append(json.loads(printed.out)["response"])
        assert ("1 prompt cut to the last 24 tokens" in printed.err) == (name == "long.txt")
    assert texts[0] == texts[1]


def test_a_hugging_face_model_answers_too(tmp_path: Path, capsys) -> None:
    write_model(tmp_path / "model")
    (tmp_path / "asked.txt").write_text("two cats\ndogs run\n")
    command = ["sample", f"hf:{tmp_path / 'model'}", "--prompts", str(tmp_path / "asked.txt")]
    assert main([*command, "--max-prompt-length", "4", "--max-length", "5"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["prompt"] for row in rows] == ["two cats", "dogs run"]
    assert all(len(row["response"].split()) <= 5 for row in rows)
    assert main(command) == 0  # within its 16 positions
    capsys.readouterr()
    assert main([*command, "--max-prompt-length", "512"]) == 2
    assert "generator.max_positions 16 is less than 1 + data.max_prompt_length 512" in capsys.readouterr().err


def test_a_rows_other_columns_are_handed_on_as_they_stand(teacher: Path, tmp_path: Path, capsys) -> None:
    columns = (
        '"asked": "2024-05-01T10:00:00", "price": 1.50, "big": 12345678901234567890123, "exp": 1e5, "none": null, '
        '"na": "NA", "nested": {"a": [1.0, {"b": true}], "c": "é\u2028"}'
    )
    rows = [f'{{"prompt": "the man walks .", {columns}}}', '{"id": 2, "prompt": "the dog eats .", "response": "old"}']
    (tmp_path / "asked.ndjson").write_text("\n\n".join(rows) + "\n", "utf-8")
    assert main(["sample", str(teacher), "--prompts", str(tmp_path / "asked.ndjson")]) == 0
    printed = capsys.readouterr()
    first, second = printed.out.rstrip("\n").split("\n")
    assert first.startswith(rows[0][:-1] + ', "response": "')
    assert second.startswith('{"id": 2, "prompt": "the dog eats .", "response": "')
    assert json.loads(second)["response"] != "old"
    assert "note: 1 blank line skipped" in printed.err


TURNS = [
    {"role": "system", "content": "be short"},
    {"role": "user", "content": "the man walks ."},
    {"role": "assistant", "content": "he walks ."},
    {"role": "user", "content": "the dog eats ."},
]


def test_rows_whose_prompts_are_conversations_are_answered(teacher: Path, tmp_path: Path, capsys) -> None:
    rows = [{"prompt": TURNS}, {"prompt": [*TURNS, {"role": "assistant", "content": "it eats ."}]}]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["sample", str(teacher), "--prompts", str(tmp_path / "asked.jsonl"), "--temperature", "0"]) == 0
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["prompt"] for row in written] == [row["prompt"] for row in rows]
    assert written[0]["response"] == written[1]["response"]


def test_conversations_that_are_printed_are_read_again(tmp_path: Path) -> None:
    config = tmp_path / "chat.yaml"
    config.write_text("data: {kind: hf, text_column: messages, max_prompt_length: 8, max_length: 8}\n")
    answer = {"role": "assistant", "content": "it eats ."}
    rows = [{"messages": [*TURNS, answer]}, {"messages": [TURNS[1], answer]}]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = [
        "--split",
        "train",
        "--data.train",
        str(tmp_path / "chat.jsonl"),
        "--data.valid",
        str(tmp_path / "chat.jsonl"),
    ]
    assert main(["data", str(config), *keys, "--out", str(tmp_path / "one.jsonl")]) == 0
    printed = read(tmp_path / "one.jsonl")
    assert printed == [{"prompt": TURNS, "answer": "it eats ."}, {"prompt": "the man walks .", "answer": "it eats ."}]
    keys = [
        "--split",
        "train",
        "--data.train",
        str(tmp_path / "one.jsonl"),
        "--data.valid",
        str(tmp_path / "one.jsonl"),
    ]
    columns = ["--data.prompt_column", "prompt", "--data.text_column", "answer"]
    assert main(["data", str(config), *keys, *columns, "--out", str(tmp_path / "two.jsonl")]) == 0
    assert read(tmp_path / "two.jsonl") == printed


def test_a_column_that_json_lines_can_not_hold_is_refused_before_anything_is_written(
    teacher: Path, tmp_path: Path, capsys
) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["the man walks ."], "image": [b"x"]}), tmp_path / "a.parquet")
    assert main(["sample", str(teacher), "--prompts", str(tmp_path / "a.parquet")]) == 2
    printed = capsys.readouterr()
    assert "a.parquet, row 1: can't be handed on: it holds b'x', which JSON has not; drop that column" in printed.err
    assert not printed.out


def test_a_write_that_fails_leaves_the_file_as_it_was(teacher: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("old\n")
    (tmp_path / "asked.txt").write_text("the man walks .\n")

    def broken(self: TextWriter, *_: Any) -> Any:
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(TextWriter, "batches", broken)
    command = ["sample", str(teacher), "--prompts", str(tmp_path / "asked.txt"), "--out", str(out)]
    assert main(command) == 130
    assert out.read_text() == "old\n"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["asked.txt", "out.jsonl"]


DISCRIMINATOR = {
    "kind": "transformer",
    "layers": 1,
    "width": 8,
    "heads": 2,
    "max_positions": 48,
    "from_generator": True,
}


def student(root: Path, **overrides: Any) -> dict[str, Any]:
    """The keys of GAD, small, on what the teacher wrote."""
    files = {f"data.{which}": str(root / f"{which}.jsonl") for which in ("train", "valid", "test")}
    return (
        {key: value for key, value in TINY.items() if not key.startswith("discriminator.")}
        | files
        | {
            "data.kind": "hf",
            "data.valid_fraction": None,
            "data.test_fraction": None,
            "data.prompt_column": "prompt",
            "data.text_column": "response",
            "data.answer_column": "answer",
            "data.max_length": 16,
            "data.max_prompt_length": 24,
            "generator.max_positions": 48,
            "discriminator.kind": None,
            "discriminator.embedding": None,
            **{f"discriminator.{key}": value for key, value in DISCRIMINATOR.items()},
            "objective.pair_loss": "relativistic",
            "objective.dense": False,
            "objective.reward": "logit",
            "objective.estimator.kind": "grpo",
            "objective.estimator.samples": 2,
            "objective.kl_weight": 0.1,
            "objective.kl_estimator": "low_variance",
            "objective.replay_size": 32,
            "evaluation.task": "summary",
            **overrides,
        }
    )


def divergences(folder: Path) -> list[float]:
    return [line["divergence"] for line in read_metrics(folder) if "divergence" in line]


def test_a_file_of_the_teachers_tokens_trains_as_the_teacher_does(teacher: Path, tmp_path: Path, capsys) -> None:
    """With all tokens in it; with a few it is another divergence. A file of another text is refused."""
    distilled = {"objective.estimator": {"kind": "distill", "teacher": str(teacher), "on_policy": 0.0, "beta": 0.3}}
    keys = GRAMMAR | distilled | dict.fromkeys(("likelihood.steps", "continued.steps", "warmup.steps"), 0)
    config = write_config(tmp_path, keys | {"name": "at_hand"})
    size = load_writer(RunFolder(teacher)).tokenizer.vocabulary.size
    files = {count: tmp_path / f"{count}.safetensors" for count in (size, 3)}
    for count, file in files.items():
        assert main(["data", str(config), "--top-k", str(count), "--out", str(file)]) == 0
        held = float(capsys.readouterr().out.split("they hold ")[1].split("%")[0])
        assert held == pytest.approx(100) if count == size else 3 / size < held / 100 < 1
    train_run(load_config(str(config), []), lambda line: None)
    found = {}
    for count, file in files.items():
        away = {"objective.estimator": {"kind": "distill", "top_k_file": str(file), "on_policy": 0.0, "beta": 0.3}}
        path = write_config(tmp_path, keys | away | {"name": f"away_{count}"})
        train_run(load_config(str(path), []), lambda line: None)
        found[count] = divergences(tmp_path / "runs" / f"away_{count}")
    wanted = divergences(tmp_path / "runs" / "at_hand")
    assert found[size] == pytest.approx(wanted, rel=1e-4)
    assert wanted
    assert found[3] != pytest.approx(wanted, rel=1e-3)
    assert (tmp_path / "runs" / "at_hand" / "teacher.txt").is_file()
    config = write_config(tmp_path, keys | {"name": "at_hand"})
    assert main(["data", str(config), "--top-k", "2", "--out", str(tmp_path / "2.safetensors")]) == 0
    path = write_config(tmp_path, keys | away | {"name": "away_3"})
    kept = files[3].read_bytes()
    files[3].write_bytes((tmp_path / "2.safetensors").read_bytes())
    capsys.readouterr()
    assert main(["train", str(path)]) == 2
    assert "what objective.estimator distils from has changed since" in capsys.readouterr().err
    files[3].write_bytes(kept)
    assert main(["train", str(path)]) == 0
    assert main(["train", str(path), "--name", "other", "--data.seed", "5"]) == 2
    told = capsys.readouterr().err
    assert "objective.estimator.top_k_file" in told
    assert "other tokens than the training text's" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--top-k", "3"], "give --out, and no --split"),
        (["--top-k", "0", "--out", "x"], "should be a whole number, at least 1"),
        (["--top-k", "9999", "--out", "x"], "the vocabulary has"),
        (["--top-k", "3", "--out", "x", "--objective.estimator.kind", "reinforce"], "--top-k needs a teacher"),
    ],
)
def test_tokens_of_no_teacher_or_too_many_are_refused(
    teacher: Path, tmp_path: Path, capsys, monkeypatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    distilled = {"kind": "distill", "teacher": str(teacher), "on_policy": 0.0}
    config = write_config(
        tmp_path, GRAMMAR | {"init_from": str(teacher), "warmup.steps": 0, "objective.estimator": distilled}
    )
    assert main(["data", str(config), *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.exhaustive
def test_gad_trains_end_to_end_and_is_judged_by_the_right_answers(teacher: Path, tmp_path: Path) -> None:
    root = teacher.parents[1]
    folder = train_tiny(tmp_path, student(root))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in records if line["phase"] == "adversarial" and "kl" in line]
    assert len(steps) == 4
    assert steps[0]["kl"] < 1e-6 < steps[-1]["kl"]  # the reference is what the phase began with
    evaluation = Evaluation.load(folder)
    assert evaluation is not None
    rows = {score.name: score for score in evaluation.scores}
    tests = read(root / "test.jsonl")[:8]
    right = sum(row["response"] == row["answer"] for row in tests) / len(tests)
    # Real text is the teacher's, which is not always right.
    assert rows["exact match"].values[REAL].value == right < 1
    assert {"likelihood", "continued", "adversarial, best"} <= rows["exact match"].values.keys()
    assert {"likelihood", "adversarial, best"} <= rows["exact match of drawn answers"].values.keys()


@pytest.mark.thorough
def test_checkpoints_are_chosen_by_answers_that_are_like_the_teachers(teacher: Path, tmp_path: Path) -> None:
    """Though their likelihood may rank them otherwise; the right answers are not looked at."""
    keys = {"evaluation.choose_by": "task", "evaluation.task": "answer", "likelihood.optimizer.learning_rate": 0.1}
    only = {"continued.steps": 0, "warmup.steps": 0, "adversarial.steps": 0, "checkpoints.keep": 9}
    folder = RunFolder(train_tiny(tmp_path, student(teacher.parents[1], **keys, **only)))
    run = load_writer(folder)
    rows = read(teacher.parents[1] / "valid.jsonl")
    asked = run.tokenizer.encode_prompts([row["prompt"] for row in rows])
    unlike = {}
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        for saved in checkpoints.all():
            params = restore_generator(checkpoints, saved, run.config, run.generator)
            texts = TextWriter(run.generator, run.tokenizer, 16, 8)(params, 0, 20, Drawing(0.0), asked).texts
            unlike[saved.step] = sum(a != row["response"] for a, row in zip(texts, rows, strict=True)) / 20
            assert saved.task_error == pytest.approx(unlike[saved.step])
        assert checkpoints.best("likelihood").step == min(unlike, key=lambda step: (unlike[step], step))
    assert len(unlike) == 3
    evaluation = Evaluation.load(folder.path)
    assert evaluation is not None
    assert evaluation.columns[0].chosen == "best answers to validation prompts of its phase"


def test_the_rank_of_a_checkpoint_is_its_task_error_where_it_has_one() -> None:
    saved = [Saved("likelihood", 1, 2.0, None, 0.5), Saved("likelihood", 2, 3.0, None, 0.25)]
    assert min(saved, key=lambda one: one.rank or 0).step == 2
    assert rank_of({METRIC: 3.0, TASK_METRIC: 0.25}) < rank_of({METRIC: 2.0, TASK_METRIC: 0.5})
    assert rank_of({METRIC: 3.0}) == 3.0


@pytest.mark.exhaustive
def test_a_comparison_of_a_task_counts_right_answers_greedy_ones_too(teacher: Path, tmp_path: Path) -> None:
    write_config(tmp_path, student(teacher.parents[1], **{"evaluation.sweep.top_p": [1.0]}))
    arms = {"gad": {}, "frozen": {"set": {"adversarial.freeze_discriminator": True}}}
    (tmp_path / "both.yaml").write_text(yaml.safe_dump({"base": "tiny.yaml", "arms": arms}, sort_keys=False))
    assert main(["compare", str(tmp_path / "both.yaml")]) == 0
    found = json.loads((tmp_path / "runs" / "both" / "comparison" / "comparison.json").read_text())
    assert [model["model"] for model in found["models"]] == [
        "likelihood",
        "continued likelihood",
        "gad",
        "control: frozen",
    ]
    assert found["chosen_by"] == "task error"
    evaluation = Evaluation.load(tmp_path / "runs" / "both" / "gad-seed0")
    assert evaluation is not None
    assert evaluation.sweep is not None
    cells = [cell for cell in evaluation.sweep.cells if cell.column == "adversarial"]
    assert [cell.temperature for cell in cells] == [0.0, 0.5, 1.0]
    assert "held-out NLL" not in cells[0].test  # greedily every other text is impossible
    assert cells[1].test.keys() == {"exact match", "ROUGE-L", "task error", "held-out NLL"}
    # The figures of the table are those of answers to test prompts by the right answers.
    row = next(score for score in evaluation.scores if score.name == "ROUGE-L")
    assert row.values["adversarial, best"].value is not None
    tests = read(teacher.parents[1] / "test.jsonl")
    real = next(cell for cell in evaluation.sweep.cells if cell.column == REAL)
    assert real.test["exact match"].value == sum(one["response"] == one["answer"] for one in tests) / len(tests)


# ---- the configs for models

GPT2 = {
    "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257,
    "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
}  # fmt: skip
QWEN = {
    "model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "intermediate_size": 18944, "max_position_embeddings": 32768, "vocab_size": 152064,
    "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "hidden_act": "silu", "use_sliding_window": False,
    "tie_word_embeddings": False,
}  # fmt: skip
MODELS = {"distill_gpt2": GPT2, "distill_qwen2.5_7b_v5e256": QWEN}
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("name", MODELS)
def test_a_config_for_a_model_has_the_models_network_and_gads_method(name: str, tmp_path: Path) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    (tmp_path / "config.json").write_text(json.dumps(MODELS[name]))
    network = read_network(tmp_path)
    network.check(config.generator)  # what `init_from` asks for
    assert config.vocab_size == network.vocab_size
    assert config.discriminator.from_generator
    gad = load_config(CONFIGS / "gad.yaml").objective
    assert config.objective == dataclasses.replace(gad, replay_size=config.objective.replay_size, replay_share=0.5)
    assert config.objective.replay_size >= 8 * config.adversarial.batch_size


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", MODELS)
def test_a_config_for_a_model_trains_at_a_tiny_size(name: str, teacher: Path, tmp_path: Path) -> None:
    sizes = {"layers": 1, "width": 8, "heads": 2, "max_positions": 48}
    sizes |= {"kv_heads": 1, "mlp_width": 8} if "qwen" in name else {}
    keys: dict[str, Any] = {f"{role}.{key}": n for role in ("generator", "discriminator") for key, n in sizes.items()}
    keys |= {f"data.{which}": teacher.parents[1] / f"{which}.jsonl" for which in ("train", "valid", "test")}
    keys |= {"vocab_size": "null", "data.max_length": 16, "data.max_prompt_length": 24, "runs_folder": tmp_path}
    keys |= {"mesh.data": -1, "mesh.fsdp": 1, "mesh.tensor": 1, "objective.estimator.samples": 2}
    for phase, steps in {"likelihood": 2, "warmup": 1, "adversarial": 2}.items():
        keys |= {f"{phase}.steps": steps, f"{phase}.batch_size": 4}
    keys |= {"continued.steps": 0, "likelihood.optimizer.warmup_steps": 0, "evaluation.log_every": 1}
    keys |= {"records.tensorboard": False, "objective.replay_size": 16}
    config = load_config(CONFIGS / f"{name}.yaml", [f"--{key}={value}" for key, value in keys.items()])
    folder = train_run(config, print)
    steps = [line["step"] for line in read_metrics(folder.path) if "kl" in line]
    assert steps == [4, 5]


# ---- bad input


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.jsonl", None, "none.jsonl: no such file"),
        ("other.jsonl", '{"ask": "x"}\n', "other.jsonl: no column prompt; there are: ask"),
        ("list.jsonl", '{"prompt": [3]}\n', "list.jsonl, row 1: column prompt holds [3], which is no text"),
        ("half.jsonl", '{"prompt": "x"}\n{"prompt"\n', "half.jsonl: cannot be read"),
        ("void.jsonl", "", "void.jsonl"),
        ("blank.txt", "\n", "blank.txt is empty"),
    ],
)
def test_a_bad_file_of_prompts_is_refused_in_one_line(
    name: str, content: str | None, says: str, teacher: Path, tmp_path: Path, capsys
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    out = tmp_path / "out.jsonl"
    assert main(["sample", str(teacher), "--prompts", str(tmp_path / name), "--out", str(out)]) == 2
    errors = capsys.readouterr().err
    assert says in errors
    assert errors.count("\n") == 1
    assert not out.exists()
