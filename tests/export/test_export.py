"""A run's generator in other programs: the same text as `gptgan sample` writes; and all of a folder, or none of it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import yaml
from tiny import train_tiny

from gptgan_jax import TransformerConfig, Vocabulary, build_generator
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.cli import main
from gptgan_jax.config import Config
from gptgan_jax.errors import UserError
from gptgan_jax.export import folders, stablehlo
from gptgan_jax.export.card import base_model, model_card
from gptgan_jax.export.folders import export_run
from gptgan_jax.pretrained.huggingface import open_model
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.trained import load_writer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(
        tmp_path_factory.mktemp("exported"), {"likelihood.steps": 40, "adversarial.steps": 2, "evaluation.every": 1000}
    )


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keys = {"norm": "rms", "positions": "rotary", "activation": "swiglu", "bias": False, "qkv_bias": False}
    changes = {f"generator.{name}": value for name, value in keys.items()} | {"generator.tied_embeddings": False}
    short = {
        "evaluation.every": 1000,
        "likelihood.steps": 40,
        "adversarial.steps": 0,
        "warmup.steps": 0,
        "continued.steps": 0,
    }
    return train_tiny(tmp_path_factory.mktemp("llama"), changes | short)


def greedy(run: Path, capsys: pytest.CaptureFixture, *options: str) -> str:
    capsys.readouterr()
    assert main(["sample", str(run), "--num", "1", "--temperature", "0", *options]) == 0
    return capsys.readouterr().out.strip()


def exported(run: Path, kind: str, out: Path, *options: str) -> Path:
    assert main(["export", str(run), "--to", kind, "--out", str(out), *options]) == 0
    return out


@pytest.mark.always
@pytest.mark.cases(1)
@pytest.mark.parametrize("prompt", ["", "two", "two birds"])
@pytest.mark.parametrize("name", [pytest.param("run", marks=pytest.mark.thorough), "llama"])
def test_transformers_writes_the_same_text(name: str, prompt: str, request: Any, tmp_path: Path, capsys: Any) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    pytest.importorskip("torch", reason="needs PyTorch")
    run = request.getfixturevalue(name)
    folder = exported(run, "hf", tmp_path / "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = tokenizer([prompt], return_tensors="pt", return_token_type_ids=False)
    longest = 6 - len(prompt.split())
    written = model.generate(**given, max_new_tokens=longest, do_sample=False)
    theirs = tokenizer.batch_decode(written, skip_special_tokens=True)[0]
    assert theirs == greedy(run, capsys, *(["--prompt", prompt] if prompt else []))
    assert len(theirs.split()) > 1


def printed_by_its_card(folder: Path) -> str:
    """What the program in the card prints, in a process that knows nothing of this project."""
    _, _, rest = (folder / "README.md").read_text(encoding="utf-8").partition("```python\n")
    program = (
        rest.partition("```")[0]
        .replace("np.float32(1.0)", "np.float32(0)")
        .replace("tf.constant(1.0)", "tf.constant(0.0)")
    )
    program += "\nimport sys; assert not [name for name in sys.modules if name.startswith('gptgan')]"
    command = [sys.executable, "-I", "-c", program]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "needs"), [("stablehlo", "flatbuffers"), ("savedmodel", "tensorflow")])
def test_the_program_of_the_card_writes_the_same_text(
    kind: str, needs: str, run: Path, tmp_path: Path, capsys: Any
) -> None:
    pytest.importorskip(needs, reason=f"needs {needs}")
    folder = exported(run, kind, tmp_path / "out")
    text = greedy(run, capsys)
    tokenizer = RunFolder(run).read_tokenizer()
    printed = printed_by_its_card(folder)
    written = [int(word) for word in printed.partition("[[")[2].partition("]]")[0].split()]
    assert tokenizer.decode(written) == text
    assert len(text.split()) > 1


def test_the_weights_beside_a_program_are_right_however_they_lie_in_memory(tmp_path: Path, monkeypatch: Any) -> None:
    """safetensors writes the numbers in the order of the memory, whatever the strides are."""
    from safetensors.numpy import load_file

    monkeypatch.setattr(stablehlo, "export", MagicMock())
    monkeypatch.setattr(stablehlo, "write_whole", lambda path, content: None)
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    params = {"transposed": x.T, "by columns": np.asfortranarray(x), "strided": x[:, ::2], "as it is": x}
    generator = build_generator(TransformerConfig(width=8, heads=2, layers=1), Vocabulary(9))
    stablehlo.save_stablehlo(tmp_path, generator, params, length=4)
    found = load_file(tmp_path / stablehlo.WEIGHTS_FILE)
    assert found.keys() == params.keys()
    for name, value in params.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.thorough
def test_stablehlo_takes_any_number_of_prompts_of_any_length_and_draws(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("flatbuffers", reason="needs flatbuffers")
    import jax
    from safetensors.numpy import load_file

    from gptgan_jax import sample
    from gptgan_jax.models.trees import nested

    folder = exported(run, "stablehlo", tmp_path / "out")
    sampler = jax.export.deserialize(bytearray((folder / "sampler.stablehlo").read_bytes()))
    weights = load_file(folder / "weights.safetensors")
    generator = load_writer(RunFolder(run)).generator
    for rows, width in ((1, 1), (3, 2), (5, 10)):
        prompt = np.full((rows, width), 1, np.int32)
        prompt[:, 1:] = 5
        mask = np.ones((rows, width), bool)
        for seed in (0, 1):
            ours = sample(generator, nested(weights), jax.random.key(seed), prompt, mask, 6, 0.8)
            theirs = sampler.call(weights, np.uint32(seed), prompt, mask, np.float32(0.8))
            np.testing.assert_array_equal(theirs["tokens"], ours.tokens)
            np.testing.assert_allclose(theirs["log_probs"], ours.log_probs, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="P"):
        sampler.call(weights, np.uint32(0), np.ones((1, 11), np.int32), np.ones((1, 11), bool), np.float32(1))


@pytest.mark.thorough
def test_a_program_for_prompts_of_every_length_has_no_kernel_of_one(run: Path) -> None:
    writer = load_writer(RunFolder(run))
    network = replace(writer.config.generator, attention="flash", dtype="bfloat16", head_width=8)
    with_kernel = replace(
        writer,
        config=replace(writer.config, generator=network),
        generator=build_generator(network, writer.generator.vocabulary),
    )
    params = {"any": "tree"}
    alone, same = folders.alone(with_kernel, params)
    assert same is params
    assert alone.generator.config == replace(network, attention="dense")
    assert alone.config is with_kernel.config


def test_an_exported_run_starts_another_where_it_ended(run: Path, tmp_path: Path) -> None:
    from tiny import tiny_experiment

    folder = exported(run, "hf", tmp_path / "out", "--checkpoint", "likelihood")
    model, _ = tiny_experiment(tmp_path / "a", {"init_from": f"hf:{folder}"})
    start, _ = tiny_experiment(tmp_path / "b", {"init_from": str(run)})
    assert model.start is not None
    assert start.start is not None
    assert model.generator.vocabulary == start.generator.vocabulary
    import jax

    for one, other in zip(jax.tree.leaves(model.start.params()), jax.tree.leaves(start.start.params()), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (None, None),
        ("hub:org/model@v1", "org/model"),
        ("hf:/home/somebody/models/small/", "small"),
        ("RUN", "org/model"),
        ("/nowhere/run", None),
    ],
)
def test_the_card_names_the_model_that_all_began_with(source: str | None, name: str | None, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "first")
    folder.path.mkdir()
    folder.write_config(replace(Config(), init_from="hub:org/model"))
    config = replace(Config(), init_from=str(folder.path) if source == "RUN" else source)
    assert base_model(config) == name
    saved, params = Saved("likelihood", 3, None), {"embedding": {"table": np.zeros((2, 2))}}
    card = model_card("hf", config, params, saved, None, "print()")
    head = yaml.safe_load(card.split("---")[1])
    assert head.get("base_model") == name
    assert "/home" not in card
    assert str(tmp_path) not in card


def test_the_card_has_data_settings_and_scores_with_their_signature_and_no_folder_of_the_user(
    run: Path, tmp_path: Path
) -> None:
    card = (exported(run, "hf", tmp_path / "out") / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "- train: corpus.txt" in card
    assert "\nlikelihood:\n  steps: 40\n" in card
    assert "measured with" in card
    assert "12 test texts, T=6, temperature 1" in card
    assert "This checkpoint is the column adversarial, best." in card
    assert str(run.parent) not in card
    assert str(run.parents[1]) not in card


def test_a_run_that_was_not_judged_says_so(run: Path, tmp_path: Path) -> None:
    evaluation = run / "evaluation.json"
    kept = evaluation.read_bytes()
    evaluation.unlink()
    try:
        card = (exported(run, "hf", tmp_path / "out") / "README.md").read_text(encoding="utf-8")
    finally:
        evaluation.write_bytes(kept)
    assert "Not evaluated yet" in card


def test_it_lies_in_the_run_folder_by_default(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["export", str(run), "--to", "hf"]) == 0
    assert open_model(run / "export" / "hf").network.family == "gpt2"
    assert capsys.readouterr().out == f"exported: {run / 'export' / 'hf'}\n"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("a bug")])
def test_what_goes_wrong_leaves_nothing_behind(
    error: BaseException, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path, *_: object) -> None:
        (folder / "half").write_text("half")
        raise error

    form = folders.FORMATS["hf"]
    monkeypatch.setitem(folders.FORMATS, "hf", folders.Format(form.check, fail, form.use))
    expected = UserError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as raised:
        export_run(RunFolder(run), "hf", tmp_path / "new" / "out")
    if isinstance(error, OSError):
        assert "out can't be written (No space left on device); name another folder" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "module"), [("stablehlo", "flatbuffers"), ("savedmodel", "tensorflow")])
def test_what_is_not_installed_is_said_before_anything_is_written(
    kind: str, module: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["export", str(run), "--to", kind, "--out", str(tmp_path / "out")]) == 2
    assert f"--to {kind}: it needs" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_config_json_says_what_the_run_is(llama: Path, tmp_path: Path) -> None:
    content = json.loads((exported(llama, "hf", tmp_path / "out") / "config.json").read_text())
    assert content["model_type"] == "llama"
    assert (content["bos_token_id"], content["eos_token_id"], content["pad_token_id"]) == (1, 2, 0)
    assert content["tie_word_embeddings"] is False
