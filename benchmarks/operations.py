"""The time of each operation of a case: our side under `jax.profiler`, with XLA's names.

    python -m benchmarks.operations likelihood
    python -m benchmarks.operations sampling --match dot --rows 10

Times are those of the threads that run an operation; two parallel operations both count, and products that a library
runs in its own threads show little more than their launch. So the sum can be more or less than the step.
"""

import argparse
import gzip
import json
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.sides import CASES, config_of


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.operations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("case", choices=[name for name, case in CASES.items() if not case.once], metavar="CASE")
    parser.add_argument("--match", default="", help="only operations whose name or text this pattern is found in")
    parser.add_argument("--rows", type=int, default=30, help="how many of the costliest")
    parser.add_argument("--steps", type=int, default=5, help="traced after two others")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        texts, durations, calls, step = traced(options.case, options.steps, Path(folder))
    print(f"{options.case}: {1000 * step:.1f} ms a step while traced\n")
    print("| ms a step | times | operation | of |")
    print("|---:|---:|---|---|")
    found = [one for one in durations if re.search(options.match, f"{one} {texts[one]}")]
    for name in sorted(found, key=lambda one: -durations[one])[: options.rows]:
        shape, _, rest = texts[name].partition(" ")
        origin = re.search(r'op_name="([^"]*)"', rest)
        print(
            f"| {durations[name] / options.steps / 1000:.2f} | {calls[name] / options.steps:.0f} | "
            f"{name} {shape} | {origin[1][-80:] if origin else ''} |"
        )


def shares(case: str, folder: Path, overrides: Sequence[str] = (), rows: int = 15, steps: int = 5) -> dict[str, Any]:
    """The costliest operations of a case: seconds of a traced step, and each operation's name, shape and seconds."""
    texts, durations, calls, step = traced(case, steps, folder, overrides)
    return {
        "step_s": step,
        "all_operations_s": sum(durations.values()) / steps / 1e6,
        "operations": [
            {
                "name": name,
                "shape": texts[name].partition(" ")[0],
                "times": calls[name] / steps,
                "seconds": microseconds / steps / 1e6,
            }
            for name, microseconds in durations.most_common(rows)
        ],
    }


def traced(
    case: str, steps: int, folder: Path, overrides: Sequence[str] = ()
) -> tuple[dict[str, str], Counter[str], Counter[str], float]:
    """The text, the microseconds and the count of each operation over some steps, and the seconds of one step."""
    # Set before JAX is imported: the programs as text, since a trace has only the names of operations.
    dump = f"--xla_dump_to={folder / 'programs'} --xla_dump_hlo_as_text"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {dump}".strip()
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    import jax

    from benchmarks import ours, ours_of_model

    if CASES[case].only_compiled(jax.default_backend()) and not overrides:
        raise SystemExit(f"benchmarks: {case} is too large to run on a CPU; give it an accelerator, or another case")
    side = ours_of_model.side(case) if CASES[case].of_model else ours.side(case, config_of(case, overrides))
    side.run()
    side.run()
    with jax.profiler.trace(folder / "trace"):
        begin = time.perf_counter()
        for _ in range(steps):
            side.run()
        step = (time.perf_counter() - begin) / steps
    # The step is the largest program.
    program = max((folder / "programs").glob("*after_optimizations.txt"), key=lambda path: path.stat().st_size)
    texts = dict(re.findall(r"^\s*(?:ROOT )?%([\w.\-]+) = (.*)$", program.read_text(encoding="utf-8"), re.MULTILINE))
    durations: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    (file,) = (folder / "trace").rglob("*.trace.json.gz")
    with gzip.open(file) as stream:
        events = json.load(stream)["traceEvents"]
    for event in events:
        # A GPU's events are named by their kernels; the operation is in their arguments.
        name = event.get("args", {}).get("hlo_op", event.get("name"))
        if event.get("ph") == "X" and name in texts:
            durations[name] += event["dur"]
            calls[name] += 1
    return texts, durations, calls, step


if __name__ == "__main__":
    main()
