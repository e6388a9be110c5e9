"""Sequences of any kind, from the file to the exported folder: Chinese, molecules, and token ids."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_config, tiny_experiment, train_tiny, write_config

from gptgan_jax.cli import main
from gptgan_jax.config.files import load_config
from gptgan_jax.data.config import HfData, TextData
from gptgan_jax.data.tokenizers import load_tokenizer, read_tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import Evaluation

HAN = "山水云月风花雪鸟江河松竹梅柳灯舟"
MOLECULES = ["CCO", "c1ccccc1Cl", "CC(=O)O", "C[nH]Br", "N[C@@H](C)C(=O)O", "ClCCl", "BrCC"]
SMILES = r"Cl|Br|\[[^\]]+\]|@@|%\d\d"

LIKELIHOOD = {"continued.steps": 0, "warmup.steps": 0, "adversarial.steps": 0}  # alone, to be quick


def poems(count: int = 60) -> list[str]:
    r = random.Random(0)
    return [f"{''.join(r.choices(HAN, k=4))}，{''.join(r.choices(HAN, k=4))}。" for _ in range(count)]


def sequences(count: int = 60) -> list[list[int]]:
    r = random.Random(0)
    return [[r.randrange(30) for _ in range(r.randint(2, 5))] for _ in range(count)]


def written(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on characters."""
    folder = tmp_path_factory.mktemp("chinese")
    train = written(folder / "poems.txt", poems())
    return train_tiny(folder, {"data.train": train, "data.max_length": 12, "tokenizer.kind": "character"})


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on token ids, measured by tokens."""
    folder = tmp_path_factory.mktemp("numbers")
    train = written(folder / "ids.jsonl", [json.dumps({"tokens": ids}) for ids in sequences()])
    keys = {"data.kind": "hf", "data.train": train, "data.text_column": "tokens", "evaluation.unit": "token"}
    return train_tiny(folder, {**keys, "tokenizer.kind": "ids", "tokenizer.vocab_size": 32, **LIKELIHOOD})


def sampled(run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    capsys.readouterr()
    assert main(["sample", str(run), "--num", "4", *options]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.thorough
def test_chinese_characters_are_learned_generated_and_measured(chinese: Path, capsys) -> None:
    evaluation = Evaluation.load(chinese)
    assert evaluation is not None
    signatures = {score.name: score.signature for score in evaluation.scores}
    assert "characters" in signatures["BLEU-2"]
    assert "held-out perplexity by character" in signatures
    assert not [note for note in evaluation.notes if "ALARM" in note]
    texts = sampled(chinese, capsys)
    assert set("".join(texts)) <= set("".join(poems()))
    assert all(text.startswith("月，") for text in sampled(chinese, capsys, "--prompt", "月，"))
    assert main(["sample", str(chinese), "--prompt", "犬"]) == 2
    assert "doesn't know '犬'" in capsys.readouterr().err


@pytest.mark.thorough
def test_token_ids_are_learned_generated_and_measured(numbers: Path, capsys) -> None:
    evaluation = Evaluation.load(numbers)
    assert evaluation is not None
    signatures = {score.name: score.signature for score in evaluation.scores}
    assert re.search(r"references, tokens of tokenizer [0-9a-f]{8}, method1", signatures["BLEU-2"])
    assert "held-out perplexity by token" not in signatures
    for text in sampled(numbers, capsys):
        assert all(int(word) < 32 for word in text.split())
    assert all(text.startswith("3 7") for text in sampled(numbers, capsys, "--prompt", "3 7"))
    assert main(["evaluate", str(numbers)]) == 0
    capsys.readouterr()
    for wrong in ("3 32", "3 x", "-1"):
        assert main(["sample", str(numbers), "--prompt", wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["chinese", "numbers"])
def test_an_exported_folder_has_the_same_tokens(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name)
    assert main(["export", str(run), "--to", "hf", "--out", str(tmp_path / "out")]) == 0
    own, again = load_tokenizer(run / "tokenizer"), read_tokenizer(tmp_path / "out" / "tokenizer.json")
    texts = ["月 月，犬", *poems(5)] if name == "chinese" else ["7 3 0", "31"]
    assert [again.encode(text) for text in texts] == [own.encode(text) for text in texts]
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in texts:
        ids = own.encode(text)
        assert theirs(text, add_special_tokens=False).input_ids == ids
        assert theirs(text).input_ids == [own.vocabulary.bos_id, *ids]
        assert theirs.decode(ids) == own.decode(ids)


@pytest.mark.parametrize(
    ("lines", "keys", "message"),
    [
        (["1 2", "4 x 5"], {}, r"data\.train: \S+train\.txt, line 2: 'x' is no token id"),
        (["1 2", "", "-3"], {}, r"data\.train: \S+train\.txt, line 3: '-3' is no token id"),
        (
            ["1 2", "9"],
            {"tokenizer.vocab_size": 9},
            r"line 2: '9' is no token id; .* 0 to 8; tokenizer.vocab_size is 9",
        ),
        (["1 2"], {}, r"data\.valid: \S+valid\.txt, line 1: '7' is no token id; .* 0 to 2; .* is not set"),
    ],
)
def test_what_is_no_token_id_is_refused_with_file_and_line(
    lines: list[str], keys: dict[str, Any], message: str, tmp_path: Path, capsys
) -> None:
    train, valid = written(tmp_path / "train.txt", lines), written(tmp_path / "valid.txt", ["7 1"])
    config = write_config(tmp_path, {"data.train": train, "data.valid": valid, "tokenizer.kind": "ids", **keys})
    assert main(["train", str(config)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_what_is_no_token_id_in_a_column_is_refused_with_its_row(tmp_path: Path) -> None:
    keys = {"data.kind": "hf", "data.text_column": "tokens", "tokenizer.kind": "ids"}
    for value, message in (
        ([1, -2], "row 2: column tokens: '-2' is no token id"),
        ([1.5], "row 2: column tokens holds"),
    ):
        rows = [json.dumps({"tokens": ids}) for ids in ([1, 2], value, *sequences(40))]
        with pytest.raises(UserError, match=message):
            tiny_experiment(tmp_path, {**keys, "data.train": written(tmp_path / "bad.jsonl", rows)})


def test_prompts_may_be_lists_of_ids_too(tmp_path: Path) -> None:
    rows = [json.dumps({"asked": ids, "tokens": ids[::-1]}) for ids in sequences()]
    keys = {"data.kind": "hf", "data.text_column": "tokens", "data.prompt_column": "asked", "tokenizer.kind": "ids"}
    experiment, _ = tiny_experiment(tmp_path, {**keys, "data.train": written(tmp_path / "pairs.jsonl", rows)})
    train = experiment.train
    assert train.prompts is not None
    prompts = [train.prompts[i].tolist() for i in range(len(train))]
    assert [prompt for prompt in prompts if len(prompt) == 2]
    for i, prompt in enumerate(prompts):
        if len(prompt) < train.max_prompt_length:
            assert train.targets[i].tolist() == [*prompt[::-1], experiment.tokenizer.vocabulary.eos_id]


def test_molecules_are_symbols(tmp_path: Path) -> None:
    train = written(tmp_path / "train.smi", MOLECULES * 10)
    keys = {"data.train": train, "tokenizer.kind": "character", "tokenizer.symbols": SMILES, "data.max_length": 20}
    experiment, _ = tiny_experiment(tmp_path, {**keys, "generator.max_positions": 32})
    texts = {experiment.tokenizer.decode(experiment.train.targets[i].tolist()) for i in range(len(experiment.train))}
    assert texts <= set(MOLECULES)
    assert len(experiment.tokenizer.encode("ClCCl")) == 3
    assert experiment.tokenizer.own_unit == "character"


def test_the_file_of_the_text_says_what_kind_it_is(tmp_path: Path) -> None:
    text, rows = written(tmp_path / "a.txt", ["a b"]), written(tmp_path / "a.jsonl", ['{"text": "a"}'])
    assert load_config("quickstart", ["--data.train", text]).data == TextData(train=text, max_length=25)
    config = load_config("quickstart", [f"--data.train={rows}", "--data.text_column", "text"])
    assert isinstance(config.data, HfData)
    assert config.data.train == rows
    with pytest.raises(UserError, match=r"unknown key 'data\.train'"):
        load_config("quickstart", ["--data.kind", "grammar", "--data.train", text])
    assert isinstance(tiny_config(tmp_path).data, TextData)


def test_a_run_on_ids_starts_from_no_model_of_text(chinese: Path, tmp_path: Path) -> None:
    train = written(tmp_path / "ids.txt", [" ".join(map(str, ids)) for ids in sequences()])
    with pytest.raises(UserError, match=r"tokenizer\.kind ids, and .* learned text"):
        tiny_experiment(
            tmp_path,
            {"data.train": train, "data.max_length": 12, "tokenizer.kind": "ids", "init_from": str(chinese)},
        )
