"""Every way in which processes can differ is told by its name, and what may differ is not."""

import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hf_folders import write_model
from tiny import tiny_config, tiny_experiment, train_tiny, write_corpus

import gptgan_jax
from gptgan_jax.config import Config
from gptgan_jax.config.checking import config_from
from gptgan_jax.data import streams
from gptgan_jax.data.corpora import Split
from gptgan_jax.distributed import hosts
from gptgan_jax.distributed.hosts import RefusedByAll, check_alike, in_all
from gptgan_jax.errors import UserError
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.pretrained.weights import WEIGHTS_FILE
from gptgan_jax.runs import fingerprint as module
from gptgan_jax.runs.fingerprint import (
    _keys,
    check_same_start,
    check_same_teacher,
    check_starts,
    code_digest,
    fingerprint,
    keep_start,
    keep_teacher,
    teacher_digest,
    text_digest,
    weights_digest,
)
from gptgan_jax.runs.folder import RunFolder

Facts = dict[str, str]


def facts_of(folder: Path, keys: dict[str, Any] | None = None) -> Facts:
    experiment, run_folder = tiny_experiment(folder, keys)
    return fingerprint(experiment, run_folder)


def differences(one: Facts, other: Facts) -> set[str]:
    return {name for name in one | other if one.get(name) != other.get(name)}


def test_equal_processes_are_alike_wherever_their_files_lie(tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "one")
    assert not differences(facts, facts_of(tmp_path / "other"))
    assert json.loads(json.dumps(facts)) == facts
    assert all(isinstance(value, str) for value in facts.values())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"likelihood.steps": 7}, {"likelihood.steps"}),
        ({"seed": 1}, {"seed"}),
        ({"generator.dropout": 0.1}, {"generator.dropout"}),
        ({"data.max_length": 3}, {"data.max_length", "text as token ids"}),
        ({"tokenizer.kind": "bpe"}, {"tokenizer.kind", "tokenizer", "text as token ids"}),
    ],
)
def test_another_configuration_is_named_by_its_key(change: dict[str, Any], named: set[str], tmp_path: Path) -> None:
    differing = differences(facts_of(tmp_path / "one"), facts_of(tmp_path / "other", change))
    assert named <= differing
    assert differing - named <= {name for name in differing if name.startswith(("tokenizer.", "text as"))}


def test_another_teacher_is_told_by_its_weights_and_a_run_does_not_go_on_with_it(tmp_path: Path) -> None:
    def config_of(**teacher: str) -> Config:
        estimator = {"kind": "distill", "on_policy": 0.0, **teacher}
        return config_from({"name": "x", "objective": {"estimator": estimator}, "warmup": {"steps": 0}})

    write_model(tmp_path / "model")
    (tmp_path / "k.safetensors").write_bytes(b"likely")
    assert teacher_digest(config_from({"name": "x"})) is None
    keep_teacher(tmp_path / "none", config_from({"name": "x"}))
    assert not (tmp_path / "none").exists()
    for config, file in (
        (config_of(teacher=f"hf:{tmp_path / 'model'}"), tmp_path / "model" / "model.safetensors"),
        (config_of(top_k_file=str(tmp_path / "k.safetensors")), tmp_path / "k.safetensors"),
    ):
        folder = tmp_path / file.stem
        keep_teacher(folder, config)
        check_same_teacher(folder, config)
        before, content = teacher_digest(config), file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert teacher_digest(config) != before
        with pytest.raises(UserError, match="distils from has changed since"):
            check_same_teacher(folder, config)
        file.write_bytes(content)
        check_same_teacher(folder, config)
    assert not [name for name in _keys(config) if name.endswith((".teacher", ".top_k_file"))]


def test_a_run_is_used_again_only_beside_others_of_the_checkpoint_that_it_began_from(tmp_path: Path) -> None:
    short = dict.fromkeys(("continued.steps", "warmup.steps", "adversarial.steps"), 0)
    for name in ("base", "other", "arm"):
        (tmp_path / name).mkdir()
    base = train_tiny(tmp_path / "base", short | {"likelihood.steps": 2})
    other = train_tiny(tmp_path / "other", short | {"likelihood.steps": 4})
    keys = {"init_from": str(base), "likelihood.steps": 0, "adversarial.steps": 1}
    keys |= {"data.train": str(tmp_path / "base" / "corpus.txt")}
    arm, config = train_tiny(tmp_path / "arm", short | keys), tiny_config(tmp_path / "arm", short | keys)
    check_same_start(arm, config)
    check_starts([config])
    base.rename(tmp_path / "gone")
    check_same_start(arm, config)  # it has its start in its folder
    with pytest.raises(UserError, match=f"^{arm} began from a checkpoint that {base} no longer has; bring that back"):
        check_starts([config])
    other.rename(base)
    for check in (lambda: check_same_start(arm, config), lambda: check_starts([config, config])):
        with pytest.raises(UserError, match="no longer has; bring that back, or remove"):
            check()
    check_same_start(arm, tiny_config(tmp_path / "arm", short | keys | {"likelihood.steps": 1}))
    (arm / "start.txt").unlink()  # of an earlier version
    check_same_start(arm, config)
    check_starts([config])


def test_runs_of_one_model_begin_beside_each_other_from_the_same_weights_alone(tmp_path: Path) -> None:
    network = {"layers": 1, "width": 8, "heads": 2, "max_positions": 16}
    write_model(tmp_path / "model", TransformerConfig(**network))
    configs = [
        tiny_config(tmp_path, {"init_from": f"hf:{tmp_path / 'model'}", "seed": seed, "name": f"seed{seed}"})
        for seed in (0, 1)
    ]
    begun = RunFolder.of(configs[0])
    keep_start(begun.path, configs[0])
    begun.write_config(configs[0])
    check_starts(configs)
    weights = tmp_path / "model" / WEIGHTS_FILE
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=f"^{begun.path} began from weights that hf:{tmp_path}/model no longer has"):
        check_starts(configs)
    check_starts(configs[:1])  # nothing else begins
    weights.write_bytes(content)
    check_starts(configs)


def test_another_text_is_named_by_the_key_of_its_file(tmp_path: Path) -> None:
    valid = write_corpus(tmp_path / "valid.txt", 20)
    keys = {"data.valid": str(valid), "data.valid_fraction": None, "data.test_fraction": None}
    before = facts_of(tmp_path / "one", keys)
    lines = valid.read_text().splitlines()
    valid.write_text("\n".join([*lines[1:], lines[0]]) + "\n")
    assert differences(before, facts_of(tmp_path / "two", keys)) == {"text of data.valid", "text as token ids"}
    corpus = write_corpus(tmp_path / "corpus.txt")
    keys |= {"data.train": str(corpus)}
    before = facts_of(tmp_path / "one", keys)
    corpus.write_text(corpus.read_text().replace("here", "there"))
    assert "text of data.train" in differences(before, facts_of(tmp_path / "two", keys))


def test_text_behind_what_is_in_memory_of_a_store_is_compared_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_TRAINING", 200)
    held = write_corpus(tmp_path / "held.txt", 20)
    shared = {"data.valid": str(held), "data.valid_fraction": None, "data.test_fraction": None}
    shared |= {"likelihood.packing": "concatenate"}
    corpus = write_corpus(tmp_path / "corpus.txt", 200)

    def facts(name: str) -> Facts:
        (tmp_path / name).mkdir()
        stored = {"data.train": str(corpus), "data.store": str(tmp_path / name / "store")}
        return facts_of(tmp_path / name, {**shared, **stored})

    one, again = facts("one"), facts("again")
    assert differences(one, again) == {"data.store"}
    lines = corpus.read_text().splitlines()
    corpus.write_text("\n".join([*lines[1:], lines[0]]) + "\n")
    assert differences(one, facts("other")) == {"data.store", "text of data.store"}


def test_a_digest_of_text_is_of_all_that_a_row_has_in_its_order() -> None:
    label, none = np.array([0, 1], np.int32), None
    rows: list[Split] = [
        Split(["a", "bc"]),
        Split(["ab", "c"]),
        Split(["bc", "a"]),
        Split(["a", "bc"], prompts=["p", "q"]),
        Split(["a", "bc"], prompts=["q", "p"]),
        Split(["a", "bc"], answers=["p", "q"]),
        Split(["a", "bc"], labels=label),
        Split(["a", "bc"], labels=1 - label),
        Split(tokens=np.array([[1, 2]])),
        Split(tokens=np.array([[2, 1]])),
    ]
    assert len({text_digest(split) for split in rows}) == len(rows)
    assert text_digest(Split(["a", "bc"], none)) == text_digest(rows[0])


def test_another_package_and_another_copy_of_it_are_named_by_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = facts_of(tmp_path)
    for package in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers", "datasets"):
        with monkeypatch.context() as patched:
            true = importlib.metadata.version
            patched.setattr(
                importlib.metadata, "version", lambda name, p=package, v=true: "0" if name == p else v(name)
            )
            assert differences(before, facts_of(tmp_path)) == {package}
    monkeypatch.setattr(jax, "__version__", "0.0.1")
    assert differences(before, facts_of(tmp_path)) == {"jax"}


def test_another_code_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy is the same code; one byte of one module is not, and what is no source doesn't count."""
    package = Path(gptgan_jax.__file__).parent
    copy = tmp_path / "copy"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert code_digest(copy) == code_digest(package)
    (copy / "notes.txt").write_text("no code")
    assert code_digest(copy) == code_digest(package)
    with (copy / "objectives" / "rewards.py").open("a") as file:
        file.write("\n")
    before = facts_of(tmp_path)
    monkeypatch.setattr(module, "PACKAGE", copy)
    assert differences(before, facts_of(tmp_path)) == {"code of gptgan_jax"}


def test_a_users_estimator_and_a_setting_of_jax_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "my_estimator_of_hosts.py"
    text = "from gptgan_jax import reinforce\n\ndef build(**options):\n    return reinforce(0.9)\n"
    source.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    keys = {"objective.estimator": {"kind": "custom", "factory": "my_estimator_of_hosts:build"}}
    before = facts_of(tmp_path, keys)
    source.write_text(text.replace("0.9", "0.8"))
    assert differences(before, facts_of(tmp_path, keys)) == {"code of my_estimator_of_hosts"}
    with jax.default_matmul_precision("highest"):
        assert "setting jax_default_matmul_precision" in differences(before, facts_of(tmp_path, keys))


def test_other_weights_under_the_same_name_are_named(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    own = {f"generator.{name}": None for name in ("layers", "width", "heads", "max_positions")}
    keys = own | {"init_from": f"hf:{tmp_path / 'model'}"}
    before = facts_of(tmp_path, keys)
    (tmp_path / "model" / "README.md").write_text("read by nobody")
    assert not differences(before, facts_of(tmp_path, keys))
    path = tmp_path / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert differences(before, facts_of(tmp_path, keys)) == {"model behind init_from"}


def test_a_large_file_is_told_by_parts_all_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCKS", 4)
    monkeypatch.setattr(module, "BLOCK_BYTES", 10)
    path = tmp_path / "weights"
    content = bytes(1000)
    path.write_bytes(content)
    before = weights_digest([path])
    for place, seen in ((0, True), (255, True), (509, True), (999, True), (100, False)):
        path.write_bytes(content[:place] + b"\1" + content[place + 1 :])
        assert (weights_digest([path]) != before) is seen


def test_a_run_that_one_process_alone_finds_is_named(tmp_path: Path) -> None:
    experiment, folder = tiny_experiment(tmp_path)
    before = fingerprint(experiment, folder)
    (folder.path / "checkpoints" / "likelihood" / "6").mkdir(parents=True)
    assert differences(before, fingerprint(experiment, folder)) == {"run to go on with"}


# --- what is said of it


def among(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """As if other processes gave these texts, after this one's."""
    monkeypatch.setattr(hosts, "from_all", lambda text: [text, *texts])
    monkeypatch.setattr(jax, "process_count", lambda: 1 + len(texts))


def test_all_refuse_what_one_differs_in_and_the_line_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {"jax": "0.10.2", "text of data.train": "#aa", "likelihood.steps": "6", "seed": "0", "a": "1", "b": "2"}
    among(monkeypatch, json.dumps(mine))
    check_alike(mine)
    among(monkeypatch, json.dumps(mine), json.dumps(mine | {"text of data.train": "#bb", "likelihood.steps": "7"}))
    with pytest.raises(RefusedByAll) as refused:
        check_alike(mine)
    assert str(refused.value) == (
        "process 2 has another text of data.train, another likelihood.steps (7, not 6) than process 0; all must have "
        "the same text, config, code and packages"
    )
    among(monkeypatch, json.dumps({"new": "x"}))
    with pytest.raises(RefusedByAll, match=r"another jax \(none, not 0.10.2\).* and 3 more than process 0"):
        check_alike(mine)


def test_bad_input_of_one_process_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def bad() -> int:
        raise UserError("no such file")

    assert in_all(lambda: 3) == 3
    with pytest.raises(UserError, match=r"^no such file$"):
        in_all(bad)
    among(monkeypatch, "no room")
    with pytest.raises(RefusedByAll, match=r"^process 1: no room$"):
        in_all(lambda: 3)
    among(monkeypatch, "")
    with pytest.raises(RefusedByAll, match=r"^process 0: no such file$"):
        in_all(bad)
    among(monkeypatch, "no such file")
    with pytest.raises(RefusedByAll, match=r"^no such file$"):
        in_all(bad)
    among(monkeypatch, "")
    assert in_all(lambda: 3) == 3
