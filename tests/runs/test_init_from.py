"""A run that starts from a Hugging Face model: its network, parameters and tokenizer; or one line that says why not."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import pytest
import yaml
from helpers import assert_trees_close
from hf_folders import QWEN3, WORDS, on_one_device, write_model, write_words
from huggingface_hub.utils import filter_repo_objects
from tiny import tiny_config, tiny_experiment, write_config

from gptgan_jax import TransformerConfig, build_generator
from gptgan_jax.checkpoints.retention import METRIC
from gptgan_jax.cli import main
from gptgan_jax.config.checking import config_from
from gptgan_jax.config.files import load_config, to_yaml
from gptgan_jax.data.batches import evaluation_batches
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.layers.lora import LoraConfig
from gptgan_jax.models.discriminator_networks import TransformerDiscriminatorConfig
from gptgan_jax.pretrained import hub
from gptgan_jax.pretrained.hub import model_folder
from gptgan_jax.pretrained.huggingface import open_model
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import load_held_out
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.runs.trained import load_params, load_writer
from gptgan_jax.scoring.held_out_likelihood import likelihood_of
from gptgan_jax.training.loop import train

OWN_KEYS = {f"generator.{name}": None for name in ("layers", "width", "heads", "max_positions")}

ORACLE = {"data.kind": "oracle"} | dict.fromkeys(("data.train", "data.valid_fraction", "data.test_fraction"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "model")
    return tmp_path / "model"


def from_model(model: Path, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Keys of a run that starts from a model and says nothing of its network."""
    return OWN_KEYS | {"init_from": f"hf:{model}"} | (changes or {})


def params_of(model: Path) -> Any:
    read = open_model(model)
    return read.params(on_one_device(build_generator(read.network.config, read.tokenizer.vocabulary)))


def test_the_network_the_tokenizer_and_the_parameters_are_the_models(model: Path, tmp_path: Path) -> None:
    experiment, _ = tiny_experiment(tmp_path, from_model(model))
    assert experiment.config.generator == open_model(model).network.config
    assert experiment.generator.vocabulary == open_model(model).tokenizer.vocabulary
    assert experiment.generator.vocabulary.size == 20
    assert experiment.start is not None
    assert_trees_close(experiment.start.params(), params_of(model), rtol=0, atol=0)
    assert any(f"the generator starts from hf:{model}" in note for note in experiment.notes)


def test_a_discriminator_that_starts_from_it_needs_no_key_of_its_network(model: Path, tmp_path: Path) -> None:
    keys = {"discriminator.kind": "transformer", "discriminator.from_generator": True, "discriminator.embedding": None}
    config = tiny_config(tmp_path, from_model(model, keys))
    network = dataclasses.asdict(open_model(model).network.config)
    assert config.discriminator == TransformerDiscriminatorConfig(**network, from_generator=True)


@pytest.mark.cases(1)
@pytest.mark.parametrize(("layers", "given", "scanned"), [(23, None, False), (24, None, True), (24, False, False)])
def test_a_deep_models_layers_are_scanned_unless_the_config_says_otherwise(
    layers: int, given: bool | None, scanned: bool, tmp_path: Path
) -> None:
    """The twin's too, and the run folder says which it is."""
    write_model(tmp_path / "model", TransformerConfig(**(QWEN3 | {"layers": layers})))
    twin = {"discriminator.kind": "transformer", "discriminator.from_generator": True, "discriminator.embedding": None}
    keys = from_model(tmp_path / "model", twin | ({} if given is None else {"generator.scan_layers": given}))
    config = tiny_config(tmp_path, keys)
    assert config.generator.scan_layers is config.discriminator.scan_layers is scanned
    folder = RunFolder(tmp_path)
    folder.write_config(config)
    assert folder.read_config() == config
    experiment = load_experiment(config)
    assert experiment.start is not None
    (stacked,) = {
        x.shape[0] for x in jax.tree.leaves(experiment.start.shapes["trunk"]["decoder"].get("blocks", {}))
    } or {0}
    assert stacked == (layers if scanned else 0)


def test_a_run_trains_on_from_it_and_needs_it_no_more(model: Path, tmp_path: Path) -> None:
    """Its rate is 0 for the likelihood phase, so that its checkpoint there is the model."""
    keys = {"likelihood.optimizer.learning_rate": 1e-30}
    experiment, folder = tiny_experiment(tmp_path, from_model(model, keys))
    expected = params_of(model)
    train(experiment, folder, lambda line: None)
    shutil.rmtree(model)
    run = load_writer(folder)
    first, _ = load_params(folder, run, "likelihood")
    last, _ = load_params(folder, run, "last")
    assert_trees_close(first, expected, rtol=0, atol=0)
    assert max(float(abs(a - b).max()) for a, b in zip(jax.tree.leaves(last), jax.tree.leaves(first), strict=True)) > 0
    assert run.tokenizer.vocabulary.size == 20
    assert run.tokenizer.encode("two cats") == [4, 5]
    train(load_experiment(experiment.config, folder.read_tokenizer()), folder, lambda line: None)


def test_keys_that_are_no_part_of_the_network_are_the_users(model: Path, tmp_path: Path) -> None:
    changes = {"generator.dropout": 0.2, "generator.scan_layers": True, "generator.max_positions": 12}
    experiment, _ = tiny_experiment(tmp_path, from_model(model, changes))
    network = open_model(model).network.config
    assert experiment.config.generator == dataclasses.replace(network, dropout=0.2, scan_layers=True, max_positions=12)
    assert experiment.start is not None
    stacked = experiment.start.params()["trunk"]["decoder"]["blocks"]["mlp"]["up"]["kernel"]
    for i in range(2):
        alone = params_of(model)["trunk"]["decoder"][f"block_{i}"]["mlp"]["up"]["kernel"]
        assert_trees_close(stacked[i], alone, rtol=0, atol=0)


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"generator.width": 16}, "generator.width is 16, "),
        ({"generator.max_positions": 17}, "generator.max_positions is 17, "),
        ({"generator.mlp_width": None, "generator.heads": 2}, "generator.heads is 2, "),
        ({"generator.encoder_layers": 1}, "generator.encoder_layers is 1, "),
        ({"vocab_size": 18}, "vocab_size 18: the tokenizer has 20 tokens"),
        (ORACLE, "data is token ids, and hf:"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_the_model_is_refused_in_one_line(
    changes: dict[str, Any], says: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refused:
        tiny_experiment(tmp_path, from_model(model, changes))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_kind_of_generator_and_a_checkpoint_of_a_model_are_refused(model: Path, tmp_path: Path) -> None:
    said = r"generator\.kind is .lstm., and init_from names a transformer; leave `generator` out"
    with pytest.raises(UserError, match=said):
        tiny_config(tmp_path, from_model(model, {"generator.kind": "lstm"}))
    with pytest.raises(UserError, match="init_checkpoint last is of a run, and init_from names a model"):
        tiny_config(tmp_path, from_model(model, {"init_checkpoint": "last"}))


def test_the_folder_is_kept_by_its_absolute_path(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert tiny_config(tmp_path, OWN_KEYS | {"init_from": "hf:model"}).init_from == f"hf:{tmp_path / 'model'}"
    assert tiny_config(tmp_path, {"init_from": "model"}).init_from == str(tmp_path / "model")


def test_a_model_of_the_hub_is_downloaded_without_pickles_and_code(
    model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    asked = []

    def download(name: str, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        there = ["model.safetensors", "consolidated.safetensors", "original/model.safetensors", "pytorch_model.bin"]
        taken = filter_repo_objects(there, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        assert set(taken) <= {"model.safetensors"}
        asked.append((name, revision, set(allow_patterns)))
        return str(model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    experiment, _ = tiny_experiment(tmp_path, OWN_KEYS | {"init_from": "hub:some/model@v1"})
    assert experiment.start is not None
    assert_trees_close(experiment.start.params(), params_of(model), rtol=0, atol=0)
    assert experiment.config.init_from == "hub:some/model@v1"
    files = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"}
    files |= {"generation_config.json", "model.safetensors.index.json", "*.safetensors"}
    assert asked == [
        ("some/model", "v1", {"config.json"}),
        ("some/model", "v1", files | {"config.json"}),
    ]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("hf:nowhere", "nowhere is no folder; hf:FOLDER should name one"),
        ("hf:" + 300 * "x", "is no folder"),
        ("hub:", "'' is no name of a model"),
        ("hub:a/b/c", "'a/b/c' is no name of a model"),
        ("hub:../x/y", "is no name of a model"),
        ("hub:no-such/model", "model no-such/model can't be fetched from the hub ("),
    ],
)
def test_a_model_that_is_not_there_is_refused_in_one_line(source: str, says: str) -> None:
    with pytest.raises(UserError) as refused:
        model_folder(source)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_run_folder_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """There the keys were called start_from and start_checkpoint."""
    experiment, folder = tiny_experiment(tmp_path, {"init_from": None})
    folder.path.mkdir(parents=True)
    folder.create(experiment.config, experiment.tokenizer)
    text = folder.config_file.read_text()
    old = text.replace("init_from:", "start_from:").replace("init_checkpoint:", "start_checkpoint:")
    assert old != text
    folder.config_file.write_text(old)
    assert RunFolder(folder.path).read_config() == experiment.config


def test_a_run_folder_is_read_without_the_model(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """The folder may be somebody else's, and so may be what it names."""
    experiment, folder = tiny_experiment(tmp_path, from_model(model))
    folder.path.mkdir(parents=True)
    folder.create(experiment.config, experiment.tokenizer)
    shutil.rmtree(model)
    monkeypatch.setattr(hub, "read_network", lambda folder: pytest.fail("it was looked into"))
    assert RunFolder(folder.path).read_config() == experiment.config


def test_learned_positions_must_be_as_many(tmp_path: Path) -> None:
    """They are parameters; of rotary ones fewer may be used."""
    write_model(tmp_path / "gpt2", TransformerConfig(layers=1, width=8, heads=2, max_positions=16))
    assert tiny_config(tmp_path, from_model(tmp_path / "gpt2")).generator.max_positions == 16  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"generator\.max_positions is 12, "):
        tiny_experiment(tmp_path, from_model(tmp_path / "gpt2", {"generator.max_positions": 12}))


def test_a_tokenizer_of_more_words_than_the_network_has_rows_is_refused(model: Path, tmp_path: Path) -> None:
    write_words(model, [*WORDS, "a", "b", "c"])
    with pytest.raises(UserError, match=r"tokenizer.json has 21 tokens; .*config.json says vocab_size 20"):
        tiny_experiment(tmp_path, from_model(model))


def test_overrides_of_the_command_line_count_as_the_users(model: Path, tmp_path: Path) -> None:
    path = write_config(tmp_path, OWN_KEYS)
    config = load_config(path, ["--init_from", f"hf:{model}", "--generator.dropout", "0.1"])
    assert config.generator == dataclasses.replace(open_model(model).network.config, dropout=0.1)
    content = json.loads((model / "config.json").read_text())
    assert content["hidden_size"] == config.generator.width  # type: ignore[union-attr]


def test_a_run_gives_its_network_and_its_tokenizer_and_no_adapters(tmp_path: Path) -> None:
    first = tiny_config(tmp_path, {"generator.width": 12, "generator.dropout": 0.1})
    adapted = dataclasses.replace(first.generator, lora=LoraConfig(rank=2))
    first = dataclasses.replace(first, init_from="elsewhere", generator=adapted)
    RunFolder(tmp_path / "first").path.mkdir()
    RunFolder(tmp_path / "first").write_config(first)
    own = OWN_KEYS | {"init_from": str(tmp_path / "first")}
    config = tiny_config(tmp_path, own | {"tokenizer.kind": "bpe", "tokenizer.vocab_size": 300})
    assert config.generator == dataclasses.replace(first.generator, lora=LoraConfig())
    assert "tokenizer" not in yaml.safe_load(to_yaml(config))
    assert config_from(yaml.safe_load(to_yaml(config))) == config
    assert tiny_config(tmp_path, own | {"generator.lora.rank": 4}).generator.width == 12
    kept = tiny_config(tmp_path, own | {"init_vocabulary": "by_token", "tokenizer.kind": "bpe"})
    assert yaml.safe_load(to_yaml(kept))["tokenizer"]["kind"] == "bpe"


@pytest.mark.thorough
@pytest.mark.parametrize("rank", [0, 2])
def test_the_model_as_it_came_is_judged_beside_what_became_of_it(rank: int, model: Path, tmp_path: Path) -> None:
    """Its likelihood in the table is that of the folder's own parameters."""
    short = {"adversarial.steps": 0, "warmup.steps": 0, "continued.steps": 0, "generator.lora.rank": rank}
    config = write_config(tmp_path, from_model(model, short))
    assert main(["train", str(config)]) == 0
    run = tmp_path / "runs" / "tiny"
    evaluation = Evaluation.load(run)
    assert evaluation is not None
    assert [column.name for column in evaluation.columns] == ["start", "likelihood"]
    assert evaluation.columns[0].checkpoint == "start"
    first = read_metrics(run)[0]
    assert (first["step"], first["phase"], METRIC in first) == (0, "likelihood", True)
    nll = next(score for score in evaluation.scores if score.name == "held-out NLL").values["start"]
    read = open_model(model)
    test = load_held_out(run, read.tokenizer.vocabulary).test
    generator = build_generator(read.network.config, read.tokenizer.vocabulary)
    alone = likelihood_of(generator)(params_of(model), evaluation_batches(test, 8)).per_token()
    assert nll.value == pytest.approx(alone.value, rel=1e-6)
