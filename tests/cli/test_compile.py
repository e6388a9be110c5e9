"""The command `gptgan compile`, and the compilers that it drives."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_config, write_config

from gptgan_jax.cli import compile as command
from gptgan_jax.cli import main
from gptgan_jax.compiling import programs
from gptgan_jax.compiling.chips import CHIPS, Slice
from gptgan_jax.compiling.collectives import totals
from gptgan_jax.compiling.programs import Compiler, Memory, Program, load_players
from gptgan_jax.compiling.remarks import remarks
from gptgan_jax.compiling.tables import Outlook, outlook_table
from gptgan_jax.config import Config
from gptgan_jax.config.files import load_config
from gptgan_jax.errors import UserError

QUICKSTART = str(Path(__file__).parents[2] / "configs" / "quickstart.yaml")
NO_LIBTPU = "libtpu is not installed: it compiles for TPUs, and comes with jax[tpu]"
needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason=NO_LIBTPU)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give a config first: gptgan compile CONFIG --topology v5e:2x4"),
        ([QUICKSTART], "--topology is missing"),
        ([QUICKSTART, "--topology"], "--topology needs a value: --topology CHIP:SHAPE"),
        ([QUICKSTART, "--topology", "v5e-8"], "should be CHIP:SHAPE"),
        ([QUICKSTART, "--topology=v9:2x2"], "the chips are v5e, v5p, v6e, tpu7x"),
        ([QUICKSTART, "--topology", "v5e:2x4", "--generator.layer", "2"], "generator.layer"),
        (["nowhere.yaml", "--topology", "v5e:2x4"], "nowhere.yaml"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err
    assert captured.err.count("\n") == 1


def test_without_libtpu_it_is_status_2_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["compile", QUICKSTART, "--topology", "v5e:2x4"]) == 2
    assert capsys.readouterr().err == 'gptgan: compiling for a TPU needs its compiler, libtpu: pip install "jax[tpu]"\n'


def test_help_needs_neither_config_nor_libtpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--help"]) == 0
    assert "v5e:2x4" in capsys.readouterr().out


def test_pmap_and_batches_that_do_not_split_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write_config(tmp_path))
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip(NO_LIBTPU)
    assert main(["compile", path, "--topology", "v5e:2x4", "--mesh.backend", "pmap"]) == 2
    assert "mesh.backend pmap" in capsys.readouterr().err
    assert main(["compile", path, "--topology", "v5e:2x4", "--adversarial.batch_size", "12"]) == 2
    assert "batch_size 12 is not a multiple" in capsys.readouterr().err


# ---- on the CPU of this machine, as if it were a chip: everything but libtpu


def pretended(config: Config) -> tuple[Compiler, Slice]:
    import jax

    chips = Slice("v5e:1x1", CHIPS["v5e"], (1, 1), jax.devices("cpu")[:1])
    return Compiler(config, load_players(config), chips), chips


def test_a_step_with_a_teacher_is_refused_and_the_others_compile(tmp_path: Path) -> None:
    path = str(Path(QUICKSTART).parent / "gkd.yaml")
    with pytest.raises(UserError, match=r"compile the other phases with --adversarial\.steps 0"):
        pretended(load_config(path, ["--vocab_size", "300"]))
    compiler, _ = pretended(load_config(path, ["--vocab_size", "300", "--adversarial.steps", "0"]))
    assert compiler.names == ("likelihood", "sampler")


@pytest.mark.thorough
def test_every_step_and_the_sampler_are_compiled(tmp_path: Path) -> None:
    compiler, _ = pretended(tiny_config(tmp_path))
    assert compiler.names == ("likelihood", "continued", "warmup", "adversarial", "sampler")
    found = {name: compiler.program(name) for name in ("likelihood", "adversarial", "sampler")}
    memories = {name: one.memory for name, one in found.items()}
    assert all(memory is not None for memory in memories.values())
    likelihood, adversarial, sampler = memories.values()
    assert likelihood is not None
    assert adversarial is not None
    assert sampler is not None
    # Adam keeps two moments of who learns, and a count or two.
    generator = sampler.parameters
    assert likelihood.optimizer == pytest.approx(2 * generator, abs=16)
    assert adversarial.optimizer == pytest.approx(2 * adversarial.parameters, abs=16)
    assert sampler.waiting == pytest.approx(adversarial.parameters + adversarial.optimizer - generator, abs=100)
    assert 0 < likelihood.activations <= likelihood.temporaries
    assert all(not one.collectives for one in found.values())


def test_a_given_vocabulary_needs_no_text(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, {"data.train": str(tmp_path / "nowhere.txt"), "vocab_size": 50})
    players = load_players(config)
    assert players.generator.vocabulary.size == 50
    assert players.example.prompt.shape == (1, 1)
    assert players.example.target.shape == (1, 6)


def remarked(folder: Path, **keys: Any) -> list[str]:
    return remarks(tiny_config(folder, {f"generator.{key}": value for key, value in keys.items()}))


def test_layers_scanned_without_remat_are_told_of(tmp_path: Path) -> None:
    told = functools.partial(remarked, tmp_path)
    assert told() == told(scan_layers=True, remat=True) == told(remat=True) == []
    (line,) = told(scan_layers=True)
    assert line.startswith("generator.scan_layers without remat keeps all that its 1 layers compute")


def test_the_second_copy_of_scanned_weights_is_told_of(tmp_path: Path) -> None:
    told = functools.partial(remarked, tmp_path)
    assert told(dtype="bfloat16") == told(scan_layers=True, remat=True, dtype="float32") == []
    (line,) = told(scan_layers=True, remat=True, dtype="bfloat16")
    assert line.startswith("generator.scan_layers holds all its 1 layers' weights in bfloat16 too")


def memory(temporaries: float) -> Memory:
    return Memory(1 * 2**30, 2 * 2**30, 0, 0, temporaries, 0, 0)


@pytest.mark.parametrize(
    ("program", "line"),
    [
        (Program("adversarial", memory(13 * 2**30), {}), "adversarial: it needs 16.00 GiB of 15.75 GiB on each device"),
        (Program("warmup", None, {}, too_large="Used 20.00G of 15.75G hbm."), "warmup: Used 20.00G of 15.75G hbm."),
    ],
)
def test_what_does_not_fit_is_status_1_and_one_line(
    program: Program, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Program("likelihood", memory(1), {})
    outlook = Outlook(Slice("v5e:1x1", CHIPS["v5e"], (1, 1), []), {"data": 1, "tensor": 1}, (small, program))
    assert outlook.misfits == [line]
    monkeypatch.setattr(command, "_compile", lambda *arguments: [f"v5e:1x1: {line}" for line in outlook.misfits])
    assert main(["compile", QUICKSTART, "--topology", "v5e:1x1"]) == 1
    assert capsys.readouterr().err == f"gptgan: {QUICKSTART} does not fit v5e:1x1: {line}\n"


def test_the_compilers_complaint_is_kept_short() -> None:
    said = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.00G of 15.75G hbm. Exceeded hbm capacity"
    assert programs._too_large(said + " by 4.25G.\n\nTotal hbm usage >= 20.26G:\n") == "Used 20.00G of 15.75G hbm."


# ---- with libtpu


@needs_libtpu
@pytest.mark.parametrize("quickstart", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_all_phases_fit_eight_small_chips(tmp_path: Path, capsys: pytest.CaptureFixture[str], quickstart: bool) -> None:
    arguments = [QUICKSTART, "--data.train_size", "2000"] if quickstart else [str(write_config(tmp_path))]
    assert main(["compile", *arguments, "--topology", "v5e:2x4"]) == 0
    printed = capsys.readouterr().out
    for row in ("parameters", "optimizer", "temporaries", "HBM allows", "model TFLOP", "share of communication"):
        assert f"\n{row}" in printed
    assert "adversarial" in printed
    assert "sampler" in printed


@needs_libtpu
def test_gradients_are_summed_over_the_data_axis_once(tmp_path: Path) -> None:
    from gptgan_jax.compiling.chips import load_slice

    overrides: dict[str, Any] = {"adversarial.steps": 0, "warmup.steps": 0, "continued.steps": 0}
    config = tiny_config(tmp_path, overrides)
    chips = load_slice("v5e:2x4")
    compiler = Compiler(config, load_players(config), chips)
    program = compiler.program("likelihood")
    assert program.memory is not None
    _, sent = totals(list(program.collectives))["all-reduce"]
    # Twice 7/8 of every gradient, and of a few sums for the loss.
    assert sent == pytest.approx(program.memory.parameters / 1.05 * 2 * 7 / 8, rel=0.25)
    assert "all-reduce" in outlook_table(Outlook(chips, dict(compiler.mesh.shape), (program,)))


@needs_libtpu
def test_what_libtpu_finds_too_large_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = {"adversarial.steps": 0, "warmup.steps": 0, "continued.steps": 0, "vocab_size": 4000}
    path = str(write_config(tmp_path, overrides | {"generator.width": 4096, "generator.mlp_width": 250_000}))
    assert main(["compile", path, "--topology", "v5e:1x1"]) == 1
    assert "does not fit v5e:1x1: likelihood: " in capsys.readouterr().err


@needs_libtpu
def test_attention_by_a_kernel_compiles_for_tpus_and_holds_no_scores(tmp_path: Path) -> None:
    from gptgan_jax.compiling.chips import load_slice

    network = {"layers": 1, "width": 256, "heads": 4, "max_positions": 2100, "dtype": "bfloat16"}
    overrides: dict[str, Any] = {"data.max_length": 2048, "vocab_size": 512, "likelihood.batch_size": 64}
    overrides |= {f"generator.{name}": value for name, value in network.items()}
    overrides |= {"mesh.data": 1, "mesh.fsdp": 4, "mesh.tensor": 2}
    held = {}
    for attention in ("dense", "flash"):
        config = tiny_config(tmp_path / attention, overrides | {"generator.attention": attention})
        program = Compiler(config, load_players(config), load_slice("v5e:2x4")).program("likelihood")
        assert program.memory is not None, program.too_large
        held[attention] = program.memory.temporaries
    assert held["flash"] < held["dense"] / 3


@needs_libtpu
def test_drawing_copies_no_logits_on_a_tpu_and_takes_less_arithmetic_than_a_gumbel_a_token() -> None:
    import jax
    import jax.numpy as jnp

    from gptgan_jax.compiling.chips import load_slice
    from gptgan_jax.sampling import categorical

    place = jax.sharding.SingleDeviceSharding(load_slice("v5e:1x1").devices[0])
    shapes = (2, 64), (64, 151936)
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place) for shape in shapes]

    def cost(draw: Any) -> dict[str, float]:
        found: Any = jax.jit(draw).lower(*arguments).compile().cost_analysis()
        return found

    distance, blocks = cost(categorical._by_distance), cost(categorical._by_blocks)
    assert distance["bytes accessed"] < 0.8 * blocks["bytes accessed"]
    gumbel = cost(lambda uniforms, logits: jax.random.categorical(jax.random.key(0), logits))
    assert distance["flops"] < gumbel["flops"] / 5
