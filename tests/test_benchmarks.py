"""The benchmarks' own arithmetic: what counts as equal, what as slower, and how near the limit a time is."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hf_folders import QWEN3, write_model

import gptgan_jax as gg
from gptgan_jax import TransformerConfig

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import ours, sides  # noqa: E402
from benchmarks.__main__ import compared, in_words  # noqa: E402
from benchmarks.child import TOLERANCES, differences, whole_gradients  # noqa: E402
from benchmarks.results import Compiled, Result, Timing, read_ratios, table, write  # noqa: E402
from benchmarks.sides import CASES, GRAPHS, Arrays, Side, config_of, settings_on  # noqa: E402
from benchmarks.work import limit_of, parts_of  # noqa: E402

MACHINE = {
    "hardware": "a machine",
    "matmul_rate": 1e11,
    "bandwidth": 1e10,
    "cache_bandwidth": 1e11,
}


def timing(*medians: float) -> Timing:
    return Timing(medians, medians, compile=1.0, peak_bytes=2**30)


def result(ratio: float, case: str = "likelihood", **more: Any) -> Result:
    return Result(case, "a", "a step", 1.05, timing(1.0), timing(ratio), "eager", (ratio,), **more)


def test_equal_outputs_pass_and_unequal_ones_end_the_benchmark() -> None:
    x = np.linspace(-1, 1, 7, dtype=np.float32)
    apart = differences({"a": x, "n": np.arange(3)}, {"a": x + 1e-5, "n": np.arange(3)})
    assert apart["a"] == pytest.approx(1e-5, rel=0.05)
    for other in ({"a": x + 2e-3}, {"n": np.array([0, 1, 3])}, {"a": x[:-1]}, {"a": x * np.nan}):
        with pytest.raises(SystemExit, match="ours"):
            differences({"a": x, "n": np.arange(3)}, other)


def test_estimates_may_differ_by_their_errors_alone() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=1000), rng.normal(size=1000)
    assert differences({"values~": x}, {"values~": y})["values~"] < 5
    with pytest.raises(SystemExit, match="values~"):
        differences({"values~": x}, {"values~": y + 1})


def test_ratios_and_not_times_are_compared_with_the_baseline(tmp_path: Path) -> None:
    write(tmp_path / "baseline.json", MACHINE, [result(2.0), result(3.0, "sampling")])
    baseline = read_ratios(tmp_path / "baseline.json")
    assert baseline == {"likelihood": 2.0, "sampling": 3.0}
    lines = compared(baseline, [result(1.7), result(3.1, "sampling"), result(9.0, "seqgan")]).splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["SLOWER", "as before"]
    assert compared(baseline, [result(2.5)]).endswith("faster")


def test_results_of_other_cases_stay_in_the_file_and_those_of_other_machines_go(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write(path, MACHINE, [result(2.0)])
    write(path, MACHINE, [result(3.0, "sampling")])
    assert read_ratios(path) == {"likelihood": 2.0, "sampling": 3.0}
    write(path, MACHINE | {"hardware": "another"}, [result(4.0, "seqgan")])
    assert read_ratios(path) == {"seqgan": 4.0}


def test_the_likelihood_step_counts_the_flop_of_its_products() -> None:
    limit = limit_of("likelihood", MACHINE)
    tokens, width, layers, length = 32 * 64, 256, 4, 64
    products = tokens * (layers * 12 * width**2 + 5000 * width)
    attention = layers * 32 * width * length * (length + 1)  # scores and mixing, half of the square
    assert limit.flop == pytest.approx(3 * 2 * (products + attention), rel=1e-6)
    assert limit.bound == "compute"
    assert limit.seconds == pytest.approx(limit.flop / 1e11)


@pytest.mark.parametrize("case", [name for name, one in CASES.items() if not one.once and not one.of_model])
def test_every_case_has_work_by_part_and_a_row_in_the_table(case: str) -> None:
    assert all(work.model > 0 for work in parts_of(case).values())
    limit = limit_of(case, MACHINE)
    shown = table([result(2.0, case, limit=limit)])
    assert f"{limit.seconds / 1.0:.0%} ({limit.bound})" in shown


def test_what_is_only_compiled_has_a_row_without_times_and_no_share_of_the_limit(tmp_path: Path) -> None:
    case = CASES["gpt2_likelihood"]
    assert case.only_compiled("cpu")
    assert not case.only_compiled("gpu")
    assert not CASES["likelihood"].only_compiled("cpu")
    compiled = Compiled(seconds=12.34, arguments=2**31, temporaries=2**30, outputs=2**28, code=2**28)
    limit = limit_of("gpt2_likelihood", MACHINE)
    one = Result("gpt2_likelihood", case.letter, case.title, case.target, compiled, limit=limit)
    cells = [cell.strip() for cell in table([one]).splitlines()[-1].split("|")[1:-1]]
    assert cells[1:3] == [f"compiled only, {limit.flop / 1e12:.2f} TFLOP", "–"]
    assert cells[3:7] == ["–", "≥ 1.2", "–", "≥ 50%"]
    assert cells[7:] == ["12.3 s", "3.50 GiB by XLA's account"]
    write(tmp_path / "results.json", MACHINE, [one])
    assert read_ratios(tmp_path / "results.json") == {}
    assert "nothing to compare" in compared({"gpt2_likelihood": 1.3}, [one])


def test_the_rival_is_tried_with_threads_on_a_cpu_and_with_graphs_on_a_gpu() -> None:
    case = CASES["gpt2_adversarial"]
    assert [in_words(one) for one in settings_on(CASES["sampling"], "cpu")] == [
        "eager, 1 thread, inverse CDF",
        "eager, 2 threads, inverse CDF",
        "compiled, 1 thread, inverse CDF",
        "compiled, 2 threads, inverse CDF",
        "eager, 1 thread, multinomial",
        "eager, 2 threads, multinomial",
    ]
    assert [in_words(one) for one in settings_on(CASES["sampling"], "gpu")] == [
        "eager, inverse CDF",
        "compiled, inverse CDF",
        "eager, multinomial",
    ]
    assert settings_on(case, "gpu") == [{"mode": "eager"}, {"mode": "compiled"}, {"mode": GRAPHS}]
    assert settings_on(case, "tpu") == []


def test_products_of_bfloat16_are_held_against_their_own_rate() -> None:
    machine = MACHINE | {"bfloat16_rate": 8e11}
    assert limit_of("gpt2_likelihood", machine).seconds == pytest.approx(
        limit_of("gpt2_likelihood", MACHINE).seconds / 8
    )
    assert limit_of("likelihood", machine) == limit_of("likelihood", MACHINE)


def test_gpt2_has_its_124_million_parameters() -> None:
    config = config_of("gpt2_likelihood")
    vocabulary = gg.Vocabulary(50257)
    generator = gg.build_generator(config.generator, vocabulary)
    batch = gg.unconditional_batch(np.zeros((1, 1024), np.int32), vocabulary)
    shapes = jax.eval_shape(generator.init, jax.random.key(0), batch)
    further_positions = config.generator.max_positions - 1024
    assert sum(x.size for x in jax.tree.leaves(shapes)) - 768 * further_positions == 124_439_808


def tiny(dtype: str = "bfloat16") -> list[str]:
    """GPT-2's case at a size that a test can run."""
    attention = "dense" if dtype == "float32" else "flash"
    sizes = {"layers": 2, "width": 16, "heads": 2, "max_positions": 40, "dtype": dtype, "attention": attention}
    networks = [f"--{who}.{name}={n}" for who in ("generator", "discriminator") for name, n in sizes.items()]
    rows = [f"--{phase}.batch_size=3" for phase in ("likelihood", "warmup", "adversarial")]
    return [*networks, *rows, "--vocab_size=20", "--data.max_length=6"]


def test_a_step_is_compiled_from_shapes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_arrays(*_: Any) -> None:
        raise AssertionError("nothing should be run")

    monkeypatch.setattr(ours, "_stepping", no_arrays)
    found = Compiled(**ours.compile_only("gpt2_likelihood", config_of("gpt2_likelihood", tiny())))
    assert found.seconds > 0
    assert found.arguments > 2 * 4 * (20 * 16)  # both players' tables at least
    assert found.temporaries > 0


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("case", ["gpt2_likelihood", "gpt2_adversarial"])
def test_the_rival_computes_the_same_in_bfloat16(case: str) -> None:
    pytest.importorskip("torch")
    from benchmarks import theirs

    def rival(given: Arrays, dtype: str = "bfloat16") -> Side:
        return theirs.side(case, given, {"mode": "eager"}, config_of(case, tiny(dtype)))

    def apart(a: Arrays, b: Arrays) -> dict[str, float]:
        return differences(whole_gradients(a), whole_gradients(b), TOLERANCES["bfloat16"])

    own = ours.side(case, config_of(case, tiny()))
    outputs, given = own.outputs(), own.given()
    side = rival(given)
    wanted, found = side.translate(outputs), side.outputs()
    assert len(found) > 20
    assert max(apart(wanted, found).values()) > 1e-4  # more than float32 would round
    assert max(apart(rival(given, "float32").outputs(), found).values()) > 1e-4
    text = "written" if case == "gpt2_adversarial" else "text"
    with pytest.raises(SystemExit, match="differ"):
        apart(wanted, rival(given | {text: given[text][:, ::-1].copy()}).outputs())
    side.run()


LLAMA = {**QWEN3, "width": 24, "head_width": None, "mlp_width": 20, "qk_norm": False, "max_positions": 128}


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("case", ["smollm_lora", "smollm_sampling"])
def test_the_rival_of_a_real_model_computes_the_same(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a tiny model of the family, with query heads that share keys: logits, loss and each adapter's gradient."""
    for module in ("torch", "transformers", "peft"):
        pytest.importorskip(module)
    from benchmarks import ours_of_model, theirs_of_model

    write_model(tmp_path, TransformerConfig(**LLAMA))
    for module in (sides, ours_of_model, theirs_of_model):
        monkeypatch.setattr(module, "MODEL", tmp_path)
    own = ours_of_model.side(case)
    given, outputs = own.given(), own.outputs()
    rival = theirs_of_model.side(case, given, {"mode": "generate" if case == "smollm_sampling" else "eager"})
    found = differences(outputs, rival.outputs())
    assert len(found) == {"smollm_lora": 12, "smollm_sampling": 2}[case]
    assert all(np.any(outputs[name]) for name in found)
    own.run()
    rival.run()


@pytest.mark.exhaustive
def test_without_the_model_its_cases_are_left_out_with_a_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--cases", "smollm_lora", "--ours-alone"]
    environment = os.environ | {"SMOLLM": str(tmp_path / "none")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "make smollm" in done.stderr


def test_a_cached_generation_is_bound_by_the_caches_bandwidth() -> None:
    slow = limit_of("sampling", MACHINE | {"bandwidth": 1.0, "cache_bandwidth": 1e9})
    assert slow.bound == "bandwidth"
    assert slow.seconds == pytest.approx(slow.bytes / 1e9)


def test_bad_options_are_told_in_a_line() -> None:
    command = [sys.executable, "-m", "benchmarks", "--cases", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "likelihood" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_no_clone_is_told_in_a_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.textgan_pytorch", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == f"textgan_pytorch: {tmp_path} is no clone of TextGAN-PyTorch\n"
