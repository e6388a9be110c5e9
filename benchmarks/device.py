"""Checks an accelerator: whether it gives the same results as a CPU, and how fast it is.

    python -m benchmarks.device --out results.json       # make device
    python -m benchmarks.device --parts steps time_gpt2_likelihood --out results.json
    python -m benchmarks.device --size tiny --out /tmp/tried.json      # tries the command itself, also on a CPU

Correctness comes first: the kernels, losses and steps of `benchmarks/parity.py`, on the device and in float32 on the
CPU. Then cases of `python -m benchmarks` are timed and profiled. Each part runs in processes of its own for at most ten
minutes. When it ends, its result, or the reason of its failure, is saved to the file, and the next part begins. The
exit status is 1 if a part failed. Memory and speed are those of the first device.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.__main__ import ROOT, child, run_python, runs, say
from benchmarks.parity import PARTS as PARITY
from benchmarks.parity import TINY as TINY_GPT
from benchmarks.parity import compared
from benchmarks.sides import CASES, SAMPLING_ROWS, SAMPLING_TOKENS, config_of, load
from benchmarks.work import DECODING, parts_of, peak_of
from gptgan_jax.compiling.networks import Work
from gptgan_jax.system.atomic_files import write_whole

LIMIT = 600
"""The time limit of a part in seconds."""
TIMED = ("gpt2_likelihood", "gpt2_adversarial", "likelihood", "sampling", "adversarial_transformer", "seqgan")
AGAINST = ("gpt2_likelihood", "gpt2_adversarial")
"""Cases that are also profiled, and compared with compiled PyTorch if it finds a CUDA device."""
ROUNDS = 3
TINY = {
    "gpt2.yaml": TINY_GPT,
    "gpt.yaml": (*TINY_GPT, "--data.max_length=6"),
    "seqgan.yaml": (
        *("--generator.embedding=8", "--generator.hidden=8", "--vocab_size=50", "--data.max_length=4"),
        *("--discriminator.embedding=8", "--discriminator.filters=4", "--discriminator.widths=[1, 2]"),
        "--objective.estimator.rollouts=2",
        *(f"--{phase}.batch_size=3" for phase in ("likelihood", "warmup", "adversarial")),
    ),
}
"""Overrides of the cases' configs for a trial of the command itself."""


class Skipped(Exception):
    """A requirement of a part is missing."""


class Failed(Exception):
    """A part's result is wrong; `found` is saved as well."""

    def __init__(self, reason: str, found: dict[str, Any]) -> None:
        super().__init__(reason)
        self.found = found


class Bench:
    """State and helpers that the parts share.

    Attributes:
        size: tiny or full.
        device: as `benchmarks.machine identity` describes it.
    """

    def __init__(self, size: str, device: dict[str, Any]) -> None:
        self.size, self.device = size, device
        self.end = time.monotonic()

    def part(self, name: str) -> dict[str, Any]:
        """Runs a part and returns its result with `status` passed, failed or skipped, and `reason` unless it passed."""
        begin, self.end = time.monotonic(), time.monotonic() + LIMIT
        found: dict[str, Any] = {"status": "failed"}
        try:
            with tempfile.TemporaryDirectory() as folder:
                found = {"status": "passed"} | PARTS[name](self, Path(folder))
        except Skipped as error:
            found |= {"status": "skipped", "reason": str(error)}
        except Failed as error:
            found |= error.found | {"reason": str(error)}
        except subprocess.TimeoutExpired:
            found["reason"] = f"took longer than {LIMIT} s"
        except SystemExit as error:
            found["reason"] = last_line(str(error))
        except (OSError, ValueError, KeyError) as error:
            found["reason"] = last_line(f"{type(error).__name__}: {error}")
        return found | {"seconds": round(time.monotonic() - begin, 1)}

    def python(self, module: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
        return run_python(module, *arguments, environment=environment, seconds=self.left())

    def child(self, side: str, case: str, mode: str, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        overrides = {"overrides": self.overrides(case)}
        return child(side, case, mode, folder, settings | overrides, self.left())

    def left(self) -> float:
        """Remaining seconds of the part."""
        return max(self.end - time.monotonic(), 0.1)

    def overrides(self, case: str) -> Sequence[str]:
        return TINY[CASES[case].config] if self.size == "tiny" else ()

    @property
    def seconds(self) -> float:
        """Seconds for which a case is timed."""
        return 0.01 if self.size == "tiny" else 10.0


def parity(part: str, bench: Bench, folder: Path) -> dict[str, Any]:
    """Compares the same arrays on the device and on the CPU."""
    device, cpu = folder / "device.npz", folder / "cpu.npz"
    bench.python("benchmarks.parity", part, bench.size, str(device))
    bench.python("benchmarks.parity", part, bench.size, str(cpu), str(device), environment={"JAX_PLATFORMS": "cpu"})
    apart, wrong = compared(load(device), load(cpu))
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise Failed(wrong[0] + more, {"differences": apart, "wrong": wrong})
    return {"differences": apart}


def rates(bench: Bench, folder: Path) -> dict[str, Any]:
    """The best measured rates of the device: products and copies, in FLOP/s and bytes/s."""
    found = json.loads(bench.python("benchmarks.machine"))
    return {name: found[name] for name in ("matmul_rate", "bfloat16_rate", "bandwidth", "cache_bandwidth")}


def timed(case: str, bench: Bench, folder: Path) -> dict[str, Any]:
    """Tokens/s, MFU and peak memory of a step."""
    return speed(case, bench, bench.child("ours", case, "time", folder, {"seconds": bench.seconds}))


def speed(case: str, bench: Bench, found: dict[str, Any]) -> dict[str, Any]:
    """The figures of a case from its process's measurements.

    MFU is model FLOP, without recomputed or masked ones, over the device's published bfloat16 peak; None if the peak is
    not known.
    """
    overrides = bench.overrides(case)
    config = config_of(case, overrides)
    tokens = config.batch_size(CASES[case].phase) * config.data.max_length
    if case in DECODING:
        tokens = SAMPLING_ROWS * SAMPLING_TOKENS
    flop = sum(parts_of(case, overrides).values(), Work()).model
    peak = peak_of(bench.device["kind"])
    return {
        "step_s": found["median"],
        "step_s_of_all": [min(found["seconds"]), max(found["seconds"])],
        "repetitions": len(found["seconds"]),
        "compile_s": found["compile"],
        "tokens": tokens,
        "tokens_per_s": tokens / found["median"],
        "model_flop": flop,
        "flop_per_s": flop / found["median"],
        "mfu": flop / found["median"] / peak if peak else None,
        "peak_bytes": found["peak_bytes"],
    }


def profile(case: str, bench: Bench, folder: Path) -> dict[str, Any]:
    """The costliest operations of a step."""
    return bench.child("ours", case, "profile", folder, {})


def against_torch(case: str, bench: Bench, folder: Path) -> dict[str, Any]:
    """Compares outputs with compiled PyTorch on the same device, and times both in turn."""
    if not runs("import torch; torch.zeros(1, device='cuda')"):
        raise Skipped("no PyTorch with CUDA here")
    rival = {"mode": "compiled"}
    bench.child("ours", case, "outputs", folder, {})
    apart = bench.child("theirs", case, "outputs", folder, rival)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(bench.child("ours", case, "time", folder, {"seconds": bench.seconds / 2}))
        theirs.append(bench.child("theirs", case, "time", folder, rival | {"seconds": bench.seconds / 2}))
    ratios = [b["median"] / a["median"] for a, b in zip(ours, theirs, strict=True)]
    return {
        "ratio": median(ratios),
        "ratios": ratios,
        "ours_s": median(one["median"] for one in ours),
        "theirs_s": median(one["median"] for one in theirs),
        "differences": apart,
    }


PARTS: dict[str, Callable[[Bench, Path], dict[str, Any]]] = {
    **{name: partial(parity, name) for name in PARITY},
    "rates": rates,
    **{f"time_{name}": partial(timed, name) for name in TIMED},
    **{f"profile_{name}": partial(profile, name) for name in AGAINST},
    **{f"torch_{name}": partial(against_torch, name) for name in AGAINST},
}


def last_line(text: str) -> str:
    """The last line of an error message, shortened for a table."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it ended without a word"


def table(device: dict[str, Any], parts: dict[str, dict[str, Any]]) -> str:
    """A Markdown table with one row per part."""
    versions = ", ".join(f"{name} {device[name]}" for name in ("jax", "jaxlib", "libtpu", "torch") if device.get(name))
    lines = [
        f"{device['hardware']} ({device['backend']}), {versions}",
        "",
        "| part | result | seconds |",
        "|---|---|---:|",
    ]
    for name, one in parts.items():
        shown = one["status"] if one["status"] == "passed" else f"**{one['status']}**: {one['reason']}"
        if one["status"] == "passed":
            shown = "; ".join(filter(None, [_shown(one)])) or shown
        lines.append(f"| {name} | {shown.replace('|', '/')} | {one['seconds']:.0f} |")
    return "\n".join(lines)


def _shown(one: dict[str, Any]) -> str:
    if "ratio" in one:
        low, high = min(one["ratios"]), max(one["ratios"])
        return f"{one['ratio']:.2f} times compiled PyTorch ({low:.2f} to {high:.2f}): {_ms(one['ours_s'])}"
    if "differences" in one:
        relative = {name: x for name, x in one["differences"].items() if not name.endswith("~")}
        name = max(relative, key=lambda name: relative[name])
        count = len(one["differences"])
        return f"passed: {count} arrays; the furthest apart is {name}, by {relative[name]:.1e} of its largest entry"
    if "tokens_per_s" in one:
        mfu = f"MFU {one['mfu']:.0%}" if one["mfu"] is not None else f"{one['flop_per_s'] / 1e12:.3g} TFLOP/s"
        memory = f"{one['peak_bytes'] / 2**30:.2f} GiB"
        return f"{_ms(one['step_s'])} a step, {one['tokens_per_s']:,.0f} tokens/s, {mfu}, at most {memory}"
    if "operations" in one:
        first = one["operations"][:3]
        named = ", ".join(f"{operation['name']} {_ms(operation['seconds'])}" for operation in first)
        return f"{_ms(one['step_s'])} a step while traced; most in {named}" if first else "no operation was traced"
    half = f", {one['bfloat16_rate'] / 1e12:.1f} TFLOP/s of bfloat16" if one.get("bfloat16_rate") else ""
    return f"{one['matmul_rate'] / 1e12:.3g} TFLOP/s of float32{half}, {one['bandwidth'] / 1e9:.0f} GB/s of memory"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def revision() -> str | None:
    """The commit of this checkout, with + if files differ from it."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=+"], capture_output=True, text=True
    )
    return done.stdout.strip() or None


def read_results(path: Path, head: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts in a results file of the same device, versions, revision and size.

    Raises:
        ValueError: the file is not a results file, or of something else.
    """
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not {"device", "size", "revision", "parts"} <= found.keys():
        raise ValueError("no results of this command")
    return found["parts"] if all(found[key] == value for key, value in head.items()) else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if no part failed, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.device", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--size", choices=("tiny", "full"), default="full", help="tiny tries the command itself")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; other parts in it stay")
    options = parser.parse_args(arguments)
    if not options.out.absolute().parent.is_dir():
        parser.error(f"--out {options.out}: there is no folder {options.out.absolute().parent}")
    device = json.loads(run_python("benchmarks.machine", "identity"))
    if device["backend"] == "cpu" and options.size == "full":
        parser.error("JAX finds no accelerator here, only a CPU; --size tiny tries the command itself on it")
    head = {"device": device, "size": options.size, "revision": revision()}
    try:
        earlier = read_results(options.out, head)
    except ValueError as error:
        parser.error(f"--out {options.out} is another file: {error}")
    bench, parts = Bench(options.size, device), dict(earlier)
    for name in options.parts:
        parts[name] = bench.part(name)
        parts = {one: parts[one] for one in PARTS if one in parts}
        write_whole(options.out, (json.dumps(head | {"parts": parts}, indent=1) + "\n").encode())
        say(table(device, {name: parts[name]}).splitlines()[-1])
    print(table(device, parts))
    return 1 if any(parts[name]["status"] == "failed" for name in options.parts) else 0


if __name__ == "__main__":
    sys.exit(main())
