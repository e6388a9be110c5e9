"""Runs of which a part learns: adapters in all phases, resumed and exported; frozen parameters."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from helpers import assert_trees_close
from hf_folders import write_model
from tiny import tiny_experiment, train_tiny, write_config

from gptgan_jax import LoraConfig, merged
from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.cli import main
from gptgan_jax.errors import UserError
from gptgan_jax.layers.lora import without_adapters
from gptgan_jax.models.trees import nested
from gptgan_jax.objectives.optimizers import parameter_paths
from gptgan_jax.pretrained.huggingface import open_model
from gptgan_jax.runs.experiment import Experiment, load_experiment
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import Records
from gptgan_jax.runs.trained import load_params, load_writer
from gptgan_jax.training.loop import train
from gptgan_jax.training.run import Run
from gptgan_jax.types import GanState

pytestmark = pytest.mark.thorough  # whole runs; layers/test_lora.py has the parts

GPT: dict[str, Any] = {"layers": 1, "width": 8, "heads": 2, "max_positions": 16}
LIKELIHOOD_ALONE = {"continued.steps": 0, "warmup.steps": 0, "adversarial.steps": 0, "evaluation.every": 1000}
ADAPTED: dict[str, Any] = {
    "generator.lora.rank": 2,
    "generator.lora.alpha": 3.0,
    **{f"discriminator.{name}": value for name, value in GPT.items()},
    "discriminator.kind": "transformer",
    "discriminator.embedding": None,
    "discriminator.from_generator": True,
    "discriminator.lora": {"rank": 1, "targets": ["qkv"]},
    "likelihood.optimizer.accumulate": 2,
    "likelihood.optimizer.weight_decay": 0.1,
    "adversarial.ema_decay": 0.5,
    "adversarial.generator_optimizer.learning_rate": 0.03,
    "objective.kl_weight": 0.1,
    "objective.next_token_weight": 0.1,
}


def silently(line: str) -> None:
    """Takes no notice of a line."""


def flat(params: Any) -> dict[str, np.ndarray]:
    return dict(zip(parameter_paths(params), map(np.asarray, jax.tree.leaves(params)), strict=True))


def of_base(base: Path) -> dict[str, Any]:
    """Keys of a run that starts from another, on the same text."""
    return {"init_from": str(base), "data.train": str(base.parents[1] / "corpus.txt")}


class Adapted(NamedTuple):
    experiment: Experiment
    folder: RunFolder
    base: RunFolder
    said: list[str]


def states(experiment: Experiment, folder: RunFolder) -> dict[str, GanState]:
    """Of every checkpoint that is there, by phase/step."""
    run = Run(experiment, folder, silently)
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        return {f"{s.phase}/{s.step}": checkpoints.restore(s, run.target(s.phase)) for s in checkpoints.all()}


def generator_of(folder: RunFolder, checkpoint: str) -> Any:
    params, _ = load_params(folder, load_writer(folder), checkpoint)
    return params


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tmp_path_factory.mktemp("base"), LIKELIHOOD_ALONE | {"likelihood.steps": 30})


@pytest.fixture(scope="module")
def adapted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    """Its steps are 1-6 likelihood, 7-8 continued, 9-10 warm-up, 11-14 adversarial."""
    folder = tmp_path_factory.mktemp("adapted")
    experiment, run_folder = tiny_experiment(folder, ADAPTED | of_base(base))
    said: list[str] = []
    train(experiment, run_folder, said.append)
    return Adapted(experiment, run_folder, RunFolder(base), said)


@pytest.mark.thorough
def test_what_it_started_from_stays_to_the_bit_in_all_phases_and_the_adapters_learn(adapted: Adapted) -> None:
    start = flat(generator_of(adapted.base, "likelihood"))
    found = states(adapted.experiment, adapted.folder)
    assert {name.split("/")[0] for name in found} == {"likelihood", "continued", "warmup", "adversarial"}
    first = flat(Run(adapted.experiment, adapted.folder, silently).first_state().generator.params)
    for name, state in found.items():
        for tree in (state.generator.params, state.generator.ema, state.reference):
            for path, x in [] if tree is None else flat(tree).items():
                assert path not in start or x.tobytes() == start[path].tobytes(), (name, path)
        learned = {path for path, x in flat(state.generator.params).items() if (x != first[path]).any()}
        assert learned <= {path for path in first if path.endswith(("lora_a", "lora_b"))}
        assert learned, name
    assert {path for path in first if "lora" in path} == {
        path for path, x in flat(found["adversarial/14"].generator.params).items() if (x != first[path]).any()
    }


def test_the_discriminator_reads_by_what_the_generator_learned_and_adapts_that(adapted: Adapted) -> None:
    """Its trunk is the generator at the end of likelihood training, with its adapters, through both its phases."""
    with Checkpoints(adapted.folder.checkpoints, read_only=True) as checkpoints:
        best = checkpoints.choose("likelihood").step
    found = states(adapted.experiment, adapted.folder)
    config = adapted.experiment.config
    trunk = merged(found[f"likelihood/{best}"].generator.params, config.generator.lora)["trunk"]
    for name in ("warmup/10", "adversarial/14"):
        judge = found[name].discriminator.params
        begun = {path: 0 * x if path.endswith("lora_b") else x for path, x in flat(judge["trunk"]).items()}
        assert_trees_close(merged(nested(begun), LoraConfig(rank=1)), trunk, rtol=1e-6, atol=1e-6)
        assert np.any(judge["trunk"]["decoder"]["block_0"]["attention"]["qkv"]["lora_b"])
    one, other = (flat(found[name].discriminator.params["trunk"]) for name in ("warmup/10", "adversarial/14"))
    for path in one:
        assert "/lora_" in path or one[path].tobytes() == other[path].tobytes(), path
    heads = [flat(found[name].discriminator.params["head"]) for name in ("warmup/10", "adversarial/14")]
    assert any((heads[0][path] != heads[1][path]).any() for path in heads[0])


def sizes(tree: Any) -> list[tuple[str, tuple[int, ...]]]:
    return [(jax.tree_util.keystr(path), x.shape) for path, x in jax.tree.leaves_with_path(tree) if x.ndim]


def test_the_optimisers_have_no_entry_for_what_does_not_learn(adapted: Adapted) -> None:
    """Accumulated gradients included."""
    run = Run(adapted.experiment, adapted.folder, silently)
    adapters = {shape for path, shape in sizes(run.target("likelihood").generator.params) if "lora" in path}
    for phase in ("likelihood", "continued", "adversarial"):
        kept = sizes(run.target(phase).generator.opt_state)  # type: ignore[arg-type]
        assert kept
        assert all("lora" in path for path, _ in kept), kept
        assert {shape for _, shape in kept} == adapters
    for phase in ("warmup", "adversarial"):
        kept = sizes(run.target(phase).discriminator.opt_state)  # type: ignore[arg-type]
        assert kept
        assert all("lora" in path or "['head']" in path for path, _ in kept), kept


def test_it_says_how_much_learns(adapted: Adapted) -> None:
    """By hand: qkv 2 (8 + 24), out 2 (8 + 8), up and down 2 (8 + 32) each; of the discriminator qkv 8 + 24, head 9."""
    assert any(line.startswith("generator: ") and ", of which 256 learn (LoRA)" in line for line in adapted.said)
    assert any(line.startswith("discriminator: ") and ", of which 41 learn (LoRA)" in line for line in adapted.said)


@pytest.mark.thorough
def test_it_resumes_to_the_same_bits(adapted: Adapted, tmp_path: Path) -> None:
    config = dataclasses.replace(adapted.experiment.config, runs_folder=str(tmp_path))
    experiment, folder = dataclasses.replace(adapted.experiment, config=config), RunFolder.of(config)
    write, deaths = Records.write, [3, 13]  # with half of an accumulated update made; among the adversarial steps

    def dying(self: Records, phase: Any, step: int, *figures: Any) -> Any:
        if step in deaths:
            deaths.remove(step)
            raise KeyboardInterrupt
        return write(self, phase, step, *figures)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Records, "write", dying)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                train(experiment, folder, silently)
    train(load_experiment(config, folder.read_tokenizer()), folder, silently)
    for checkpoint in ("likelihood", "last"):
        one, other = flat(generator_of(folder, checkpoint)), flat(generator_of(adapted.folder, checkpoint))
        assert {path for path in one if one[path].tobytes() != other[path].tobytes()} == set()
    assert (folder.path / "metrics.jsonl").read_text() == (adapted.folder.path / "metrics.jsonl").read_text()


def by_numpy(params: dict[str, np.ndarray], scale: float) -> dict[str, np.ndarray]:
    found = {}
    for path, x in params.items():
        beside = path.removesuffix("kernel")
        if path.endswith("/kernel") and f"{beside}lora_a" in params:
            product = params[f"{beside}lora_a"].astype(np.float64) @ params[f"{beside}lora_b"].astype(np.float64)
            found[path] = x + scale * product
        elif "lora" not in path:
            found[path] = x
    return found


@pytest.mark.thorough
def test_adapters_are_merged_on_export_and_the_program_writes_the_same_text(
    adapted: Adapted, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    pytest.importorskip("torch", reason="needs PyTorch")
    assert main(["export", str(adapted.folder.path), "--to", "hf", "--out", str(tmp_path / "out")]) == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for prompt in ("", "two", "two cats"):
        given = tokenizer([prompt], return_tensors="pt", return_token_type_ids=False)
        written = model.generate(**given, max_new_tokens=6 - len(prompt.split()), do_sample=False)
        theirs = tokenizer.batch_decode(written, skip_special_tokens=True)[0]
        capsys.readouterr()
        asked = ["--prompt", prompt] if prompt else []
        assert main(["sample", str(adapted.folder.path), "--num", "1", "--temperature", "0", *asked]) == 0
        assert theirs == capsys.readouterr().out.strip()
        assert len(theirs.split()) > 1


@pytest.mark.thorough
def test_what_is_exported_and_what_another_run_starts_from_are_the_merged_weights(
    adapted: Adapted, tmp_path: Path
) -> None:
    assert main(["export", str(adapted.folder.path), "--to", "hf", "--out", str(tmp_path / "out")]) == 0
    expected = by_numpy(flat(generator_of(adapted.folder, "best")), 3.0 / 2)
    keys = {"data.train": adapted.experiment.config.data.train}  # type: ignore[union-attr]
    from_run, _ = tiny_experiment(tmp_path, keys | {"init_from": str(adapted.folder.path), "init_checkpoint": "best"})
    assert from_run.start is not None
    from_model, _ = tiny_experiment(tmp_path, keys | {"init_from": f"hf:{tmp_path / 'out'}"})
    assert from_model.start is not None
    for params in (flat(from_run.start.params()), flat(from_model.start.params())):
        assert params.keys() == expected.keys()
        for path, x in params.items():
            np.testing.assert_allclose(x, expected[path], rtol=1e-5, atol=1e-6)
    again, folder = tiny_experiment(
        tmp_path, keys | {"init_from": str(adapted.folder.path), "generator.lora.rank": 1} | LIKELIHOOD_ALONE
    )
    train(again, folder, silently)
    likelihood = by_numpy(flat(generator_of(adapted.folder, "likelihood")), 3.0 / 2)
    for path, x in flat(without_adapters(generator_of(folder, "likelihood"))).items():
        np.testing.assert_allclose(x, likelihood[path], rtol=1e-5, atol=1e-6)


def test_stablehlo_holds_the_merged_weights(adapted: Adapted, tmp_path: Path) -> None:
    pytest.importorskip("flatbuffers", reason="needs flatbuffers")
    from safetensors.numpy import load_file

    assert main(["export", str(adapted.folder.path), "--to", "stablehlo", "--out", str(tmp_path / "out")]) == 0
    expected = by_numpy(flat(generator_of(adapted.folder, "best")), 3.0 / 2)
    weights = load_file(tmp_path / "out" / "weights.safetensors")
    assert weights.keys() == expected.keys()
    for path, x in weights.items():
        np.testing.assert_allclose(x, expected[path], rtol=1e-5, atol=1e-6)
    assert "lora" in (tmp_path / "out" / "README.md").read_text()  # its settings say how it came to be


@pytest.mark.thorough
def test_a_model_of_hugging_face_is_adapted_and_stays_as_it_is(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    own: dict[str, Any] = dict.fromkeys(f"generator.{name}" for name in GPT)
    keys = own | LIKELIHOOD_ALONE | {"init_from": f"hf:{tmp_path / 'model'}", "generator.lora.rank": 2}
    experiment, folder = tiny_experiment(tmp_path, keys | {"likelihood.steps": 2})
    assert experiment.start is not None
    start = flat(experiment.start.params())
    train(experiment, folder, silently)
    params = flat(generator_of(folder, "last"))
    assert params.keys() - start.keys() == {path for path in params if "lora" in path}
    assert all(params[path].tobytes() == x.tobytes() for path, x in start.items())
    assert any(path.endswith("lora_b") and x.any() for path, x in params.items())
    assert main(["export", str(folder.path), "--to", "hf"]) == 0
    assert open_model(folder.path / "export" / "hf").network == dataclasses.replace(
        open_model(tmp_path / "model").network, source=folder.path / "export" / "hf" / "config.json"
    )


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            {"generator.lora.trained": ["embeding/x"]},
            "generator.lora.trained 'embeding/x' matches none of the 24 parame",
        ),
        ({"likelihood.optimizer.frozen": ["*lora*"]}, r"likelihood.optimizer.frozen \['\*lora\*'\] leaves nothing"),
        ({"warmup.optimizer.frozen": ["*"]}, r"warmup.optimizer.frozen \['\*'\] leaves nothing that learns"),
        ({"adversarial.generator_optimizer.frozen": ["x"]}, "generator_optimizer.frozen 'x' matches none of the"),
        ({"discriminator.lora.trained": ["y"]}, "discriminator.lora.trained 'y' matches none of the"),
    ],
)
def test_patterns_that_name_nothing_or_all_are_refused(
    keys: dict[str, Any], says: str, base: Path, tmp_path: Path
) -> None:
    experiment, folder = tiny_experiment(tmp_path, ADAPTED | of_base(base) | keys)
    with pytest.raises(UserError, match=says):
        Run(experiment, folder, silently).check_resources()


def test_an_adapter_without_a_start_is_refused_when_the_config_is_read(tmp_path: Path, capsys: Any) -> None:
    assert main(["train", str(write_config(tmp_path, {"generator.lora.rank": 2}))]) == 2
    assert "generator.lora adapts a generator that has learned: set init_from" in capsys.readouterr().err
