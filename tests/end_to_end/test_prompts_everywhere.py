"""Every command reads a prompt as training did: its template, its length, and the end that is kept of a longer one."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_folders import write_folder
from helpers import build
from hf_folders import QWEN3, write_model
from tiny import write_config

from gptgan_jax import TransformerConfig
from gptgan_jax.cli import main
from gptgan_jax.data.prompts import encode_prompts
from gptgan_jax.data.tokenizers import load_tokenizer, read_tokenizer
from gptgan_jax.generation.streaming import TokenStream
from gptgan_jax.generation.texts import TextWriter
from gptgan_jax.pretrained.huggingface import save_model
from gptgan_jax.tokenization.chat_templates import Message

LONGEST = 18
PROMPTS = [f"hello {'world ' * (i % 7)}how are you {i}" for i in range(60)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = read_tokenizer(write_folder(tmp_path_factory.mktemp("tokenizer")) / "tokenizer.json")
    generator, params = build(TransformerConfig(**QWEN3 | {"max_positions": 64}), tokenizer.vocabulary)
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, generator, params, tokenizer)
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """All prompts that generators are given."""
    found: list[list[int]] = []
    batches, stream = TextWriter.batches, TokenStream.__call__

    def recorded(self: Any, params: Any, seed: int, count: int, drawing: Any, prompts: Any = None, *more: Any) -> Any:
        found.extend(map(list, prompts or []))
        return batches(self, params, seed, count, drawing, prompts, *more)

    def streamed(self: Any, key: Any, prompt: Any) -> Iterator[int]:
        found.append(list(prompt))
        return stream(self, key, prompt)

    monkeypatch.setattr(TextWriter, "batches", recorded)
    monkeypatch.setattr(TokenStream, "__call__", streamed)
    return found


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("keep", ["start", "end"])
def test_each_command_gives_the_generator_the_tokens_of_training(
    keep: Any, model: Path, asked: list[list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    rows = [json.dumps({"prompt": prompt, "response": "you are"}) for prompt in PROMPTS]
    data, file = tmp_path / "data.jsonl", tmp_path / "one.jsonl"
    data.write_text("\n".join(rows), encoding="utf-8")
    file.write_text(rows[6], encoding="utf-8")
    keys: dict[str, Any] = {f"generator.{name}": None for name in ("layers", "width", "heads", "max_positions")}
    keys |= {"data.kind": "hf", "data.train": str(data), "data.prompt_column": "prompt", "data.text_column": "response"}
    keys |= {"data.max_prompt_length": LONGEST, "data.prompt_keep": keep, "init_from": f"hf:{model}"}
    keys |= {"likelihood.steps": 1, "continued.steps": 0, "warmup.steps": 0, "adversarial.steps": 0}
    keys |= {"evaluation.task": "answer", "evaluation.samples": 4}
    assert main(["train", str(write_config(tmp_path, keys))]) == 0
    run = tmp_path / "runs" / "tiny"
    tokenizer = load_tokenizer(run / "tokenizer")
    right = [prompt.ids for prompt in encode_prompts(tokenizer, PROMPTS, LONGEST, keep)]
    assert any(prompt.cut for prompt in encode_prompts(tokenizer, PROMPTS, LONGEST, keep))
    assert asked
    assert all(ids in right for ids in asked)
    for command in (
        ["sample", str(run), "--prompt", PROMPTS[6], "--num", "1"],
        ["sample", str(run), "--prompts", str(file)],
        ["chat", str(run)],
    ):
        asked.clear()
        monkeypatch.setattr("sys.stdin", io.StringIO(PROMPTS[6] + "\n"))
        assert main(command) == 0
        assert asked == [right[6]]
    asked.clear()
    assert main(["evaluate", str(run)]) == 0
    assert asked
    assert all(ids in right for ids in asked)


def test_a_system_turn_stands_before_what_is_asked(
    model: Path, asked: list[list[int]], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    tokenizer = read_tokenizer(model / "tokenizer.json").for_prompts()
    right = tokenizer.encode_prompts([(Message("system", "be kind"), Message("user", "hello"))])
    system = ["--system", "be kind"]
    assert main(["sample", f"hf:{model}", "--prompt", "hello", "--num", "1", "--max-length", "4", *system]) == 0
    assert asked == right
    asked.clear()
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n/reset\nhello\n"))
    assert main(["chat", f"hf:{model}", *system]) == 0
    assert asked == [*right, *right]
    assert main(["sample", f"hf:{model}", *system]) == 2
    assert "--system goes with --prompt" in capsys.readouterr().err


def test_a_system_turn_is_refused_where_no_template_would_write_it(tmp_path: Path, capsys: Any) -> None:
    write_model(tmp_path / "plain")
    assert main(["sample", f"hf:{tmp_path / 'plain'}", "--prompt", "two cats", "--system", "be kind"]) == 2
    assert "--system is for a model or run whose prompts a chat template writes; drop it" in capsys.readouterr().err


@pytest.mark.thorough
def test_a_model_is_used_as_it_came_by_the_same_commands(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Greedy, so that all of them must write the same."""
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps({"prompt": "hello world"}), encoding="utf-8")
    name, greedy = f"hf:{model}", ["--temperature", "0"]
    assert main(["sample", name, "--prompts", str(file), *greedy, "--max-length", "6"]) == 0
    response = json.loads(capsys.readouterr().out)["response"]
    assert main(["sample", name, "--prompt", "hello world", "--num", "1", *greedy, "--max-length", "6"]) == 0
    printed = capsys.readouterr().out.rstrip("\n")
    assert printed.encode().decode("unicode_escape", "ignore")[:1] == response[:1]
    monkeypatch.setattr("sys.stdin", io.StringIO("hello world\n"))
    assert main(["chat", name, *greedy]) == 0
    assert capsys.readouterr().out.startswith(printed[: max(1, len(printed) // 2)])
    assert main(["sample", name, "--num", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["sample", name, "--resample", "4"]) == 2
    assert "--resample and --label are for runs" in capsys.readouterr().err


@pytest.mark.thorough
def test_a_model_is_judged_as_it_came_by_a_configs_text(model: Path, tmp_path: Path, capsys: Any) -> None:
    """The config's own networks and training are not asked for, nor those of a run that would start from it."""
    config = write_config(tmp_path, {"data.max_length": 8, "discriminator.kind": "cnn", "discriminator.embedding": 4})
    out = tmp_path / "out"
    command = ["evaluate", f"hf:{model}", "--config", str(config), "--data.max_length", "7", "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "| held-out NLL (nats/token)" in printed
    assert "T=7" in printed
    assert [column["name"] for column in json.loads((out / "evaluation.json").read_text())["columns"]] == ["start"]
    assert not (tmp_path / "runs").exists()
    for wrong, says in (
        (["--likelihood.steps", "3"], "--likelihood has no effect on a pre-trained model"),
        (["--sweep"], "--sweep is not for a pre-trained model"),
    ):
        assert main([*command, *wrong]) == 2
        assert says in capsys.readouterr().err
    assert main(["evaluate", f"hf:{model}"]) == 2
    assert "is evaluated with --config CONFIG" in capsys.readouterr().err
