"""The parts that a benchmark's two sides share: a case, its configuration, and the arrays that pass between them.

A side is a program in a process of its own. Ours makes weights and text and writes them to `given.npz`, so that both
start from the same; each writes its outputs to `outputs_SIDE.npz`, which are compared before timing.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from gptgan_jax.config import Config, Phase
from gptgan_jax.config.files import load_config

FOLDER = Path(__file__).parent / "cases"
SAMPLING_ROWS, SAMPLING_TOKENS = 64, 32
ROLLOUTS_COMPARED = 64
# SeqGAN's: 120 epochs of likelihood, 50 x 3 of the discriminator, 200 steps of 1 + 15 updates; batches of 64.
PROTOCOL = {"likelihood": 18_750, "warmup": 23_400, "adversarial": 200}
PROTOCOL_SHARE = 50
PROTOCOL_DISCRIMINATOR_UPDATES = 15
# For the cases with a real model.
MODEL = Path(os.environ.get("SMOLLM", ".cache/smollm2")).absolute()
"""The folder of SmolLM2-135M-Instruct, made by `make smollm`."""
MODEL_ROWS, MODEL_TOKENS = 16, 64
PROMPT = "Say in one sentence what a discriminator is."

Arrays = dict[str, np.ndarray]


class Side(NamedTuple):
    """One side of a case.

    Attributes:
        run: does the work once and waits for it; the first call compiles.
        outputs: outputs that must agree with the other side's.
        given: inputs for the other side; empty for a rival.
        translate: our outputs under the rival's names.
    """

    run: Callable[[], None]
    outputs: Callable[[], Arrays]
    given: Callable[[], Arrays] = dict
    translate: Callable[[Arrays], Arrays] = lambda ours: ours


@dataclass(frozen=True)
class Case:
    """A benchmark case.

    Attributes:
        letter, title: in the tables.
        config: file in benchmarks/cases.
        rivals: settings of the other side that are tried on a CPU; the fastest is compared. Keys: mode (eager or
            compiled), threads, and others of the case. See `settings_on`.
        target: the target for the ratio of the rival's time to ours, at least.
        limit: the target for the share of the machine's limit, by compute or by bandwidth; None if there is none.
        once: whether it runs only once, including compilation.
        phase: the phase of its step.
        accelerated: whether it is meant for a GPU or a TPU; on a CPU its step is compiled and not run.
        of_model: whether it needs the model in the folder `MODEL`.
        unit: the unit of `once`: wall-clock seconds, or processor seconds from the start of the process.
    """

    letter: str
    title: str
    config: str
    rivals: tuple[dict[str, Any], ...]
    target: float | None
    limit: float | None = None
    once: bool = False
    phase: Phase = "adversarial"
    accelerated: bool = False
    of_model: bool = False
    unit: Literal["s", "CPU s"] = "s"

    def only_compiled(self, backend: str) -> bool:
        """Whether it is only compiled on this backend, and not run."""
        return self.accelerated and backend == "cpu"


def _settings(modes: tuple[str, ...], threads: tuple[int, ...], **more: Any) -> tuple[dict[str, Any], ...]:
    return tuple({"mode": mode, "threads": count, **more} for mode in modes for count in threads)


BOTH, THREADS = ("eager", "compiled"), (1, 2)
GRAPHS = "compiled with CUDA graphs"

CASES: dict[str, Case] = {
    "likelihood": Case(
        "a",
        "likelihood step, GPT 4 x 256, 32 x 64 tokens",
        "gpt.yaml",
        _settings(BOTH, THREADS),
        1.05,
        0.6,
        phase="likelihood",
    ),
    "sampling": Case(
        "b",
        f"sampling, {SAMPLING_ROWS} x {SAMPLING_TOKENS} tokens from it",
        "gpt.yaml",
        (
            *_settings(BOTH, THREADS, draw="inverse CDF"),
            *_settings(("eager",), THREADS, draw="multinomial"),
        ),
        2.5,
        0.5,
    ),
    "generate": Case(
        "b",
        "the same against Hugging Face generate",
        "gpt.yaml",
        _settings(("generate",), THREADS),
        3.0,
    ),
    "adversarial_transformer": Case(
        "c",
        "adversarial step, Transformer as discriminator",
        "gpt.yaml",
        _settings(BOTH, THREADS),
        2.0,
        0.45,
    ),
    "adversarial_cnn": Case(
        "c", "adversarial step, CNN as discriminator", "gpt_cnn.yaml", _settings(BOTH, THREADS), 2.0, 0.45
    ),
    "seqgan": Case("d", "SeqGAN step, 16 rollouts at every position", "seqgan.yaml", _settings(BOTH, THREADS), 3.0),
    "discriminator": Case(
        "h",
        "update of SeqGAN's discriminator alone, writing included",
        "seqgan.yaml",
        _settings(BOTH, THREADS),
        None,
        phase="warmup",
    ),
    "gpt2_likelihood": Case(
        "e",
        "likelihood step, GPT-2-124M, 8 x 1,024 tokens",
        "gpt2.yaml",
        _settings(BOTH, THREADS),
        1.2,
        0.5,
        phase="likelihood",
        accelerated=True,
    ),
    "gpt2_adversarial": Case(
        "e",
        "adversarial step, GPT-2-124M and a Transformer of its size",
        "gpt2.yaml",
        _settings(BOTH, THREADS),
        1.2,
        0.35,
        accelerated=True,
    ),
    "protocol": Case(
        "h",
        f"SeqGAN's whole protocol, a {PROTOCOL_SHARE}th of its updates, compilation included",
        "seqgan.yaml",
        _settings(("eager",), (2,)),
        None,
        once=True,
    ),
    "smollm_lora": Case(
        "s",
        f"LoRA step of SmolLM2-135M, rank 8, 8 x {MODEL_TOKENS} tokens, against PEFT",
        "smollm.yaml",
        _settings(BOTH, THREADS),
        1.2,
        phase="likelihood",
        of_model=True,
    ),
    "smollm_sampling": Case(
        "s",
        f"sampling, {MODEL_ROWS} x {MODEL_TOKENS} tokens from it, against Hugging Face generate",
        "smollm.yaml",
        (*_settings(("generate",), THREADS), *_settings(("static cache",), THREADS)),
        2.0,
        of_model=True,
    ),
    "smollm_greedy": Case(
        "s",
        "the same, greedy",
        "smollm.yaml",
        _settings(("generate",), THREADS),
        2.0,
        of_model=True,
    ),
    "smollm_loading": Case(
        "s",
        "from the start of the process to the first token of its answer to a chat prompt",
        "smollm.yaml",
        _settings(("generate",), (2,)),
        1.0,
        once=True,
        of_model=True,
        unit="CPU s",
    ),
    "smollm_adversarial": Case(
        "s",
        "adversarial step, generator, reference and discriminator on one copy of it",
        "smollm.yaml",
        (),
        None,
        of_model=True,
    ),
}


def config_of(case: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a case."""
    model = ("--init_from", f"hf:{MODEL}") if CASES[case].of_model else ()
    return load_config(FOLDER / CASES[case].config, (*model, *overrides))


def settings_on(case: Case, backend: str) -> list[dict[str, Any]]:
    """The rival's settings to try if JAX's backend is `cpu`, `gpu` or `tpu`.

    On a GPU threads make no difference, and cases meant for one are also tried with CUDA graphs. TPUs have no rival.
    """
    if backend == "cpu":
        return list(case.rivals)
    found: list[dict[str, Any]] = []
    for settings in case.rivals if backend == "gpu" else ():
        rest = {key: value for key, value in settings.items() if key != "threads"}
        graphs = [rest | {"mode": GRAPHS}] if case.accelerated and rest["mode"] == "compiled" else []
        found += [one for one in (rest, *graphs) if one not in found]
    return found


def save(path: Path, arrays: Arrays) -> None:
    np.savez(path, **arrays)


def load(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def as_bytes(text: str) -> np.ndarray:
    """A text that both sides must generate, as an array."""
    return np.frombuffer(text.encode(), np.uint8)


def flattened(tree: Any, prefix: str = "") -> Arrays:
    """Nested dicts of arrays as one dict: "trunk/embedding/table"."""
    if not isinstance(tree, dict):
        return {prefix.rstrip("/"): np.asarray(tree)}
    found: Arrays = {}
    for name, part in tree.items():
        found |= flattened(part, f"{prefix}{name}/")
    return found
