"""Compares compiled programs: the optimised HLO of the standard steps in a revision and in this tree.

    make hlo-diff REV=HEAD~1
    python benchmarks/hlo_diff.py HEAD~1 --configs configs/seqgan.yaml --topology v5e:1x1

A refactor must leave every program the same. Names, numbers and source lines are removed before two programs are
compared. Exit status 0: all are the same; 1: some differ, and both texts are kept; 2: bad input.
Values of large constants are not in the text, so a change only in those is not detected.
"""

import argparse
import difflib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONFIGS = ("quickstart", "seqgan", "relgan", "spin", "distill_grammar")
SMALL = {
    "vocab_size": 64,
    "data.max_length": 20,
    "data.max_prompt_length": 8,
    "likelihood.batch_size": 8,
    "warmup.batch_size": 8,
    "adversarial.batch_size": 8,
    "evaluation.batch_size": 8,
}
"""Overrides of each config, so that it compiles in seconds and needs no text."""
SHOWN = 20
"""Lines of a difference that are printed."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("revision", nargs="?", help="what the working tree is compared with: a commit, branch or tag")
    parser.add_argument("--configs", nargs="+", default=[f"configs/{name}.yaml" for name in CONFIGS])
    parser.add_argument("--programs", nargs="+", help="such as adversarial or sampler (default: all)")
    parser.add_argument("--topology", help="compile for these TPUs, such as v5e:1x1 (default: for this CPU)")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: the one of this file)")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.write:
        write_programs(options)
        return 0
    if not options.revision:
        parser.error("which revision? Such as HEAD~1")
    folder = Path(tempfile.mkdtemp(prefix="hlo-diff-"))
    kept = False  # whether differing programs are kept
    try:
        status = compare(folder, options)
        kept = status == 1
    finally:
        if not kept:
            shutil.rmtree(folder)
    return status


def compare(folder: Path, options: argparse.Namespace) -> int:
    """Compiles both trees into the folder and reports; returns the exit status."""
    earlier = folder / "tree"
    git = ["git", "-C", str(options.root), "worktree"]
    added = subprocess.run(
        [*git, "add", "--quiet", "--detach", earlier, options.revision], capture_output=True, text=True
    )
    if added.returncode:
        print(f"hlo-diff: {options.revision}: {added.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return 2
    try:
        compile_tree(earlier, folder / "before", options)
        compile_tree(options.root, folder / "after", options)
    finally:
        subprocess.run([*git, "remove", "--force", earlier], check=True)
    return report(folder)


def compile_tree(tree: Path, folder: Path, options: argparse.Namespace) -> None:
    """Writes the programs of a tree to FOLDER/CONFIG.PROGRAM.hlo, with that tree's package in a process of its own."""
    folder.mkdir()
    configs = [str(options.root / path) for path in options.configs]
    command = [sys.executable, __file__, "--write", str(folder), "--configs", *configs]
    command += ["--programs", *options.programs] if options.programs else []
    command += ["--topology", options.topology] if options.topology else []
    path = os.pathsep.join([str(tree), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    if subprocess.run(command, env=environment, cwd=tree).returncode:
        raise SystemExit(f"hlo-diff: the programs of {tree} can't be compiled; its own words are above")


def write_programs(options: argparse.Namespace) -> None:
    """Compiles each program of each config with the imported package, and writes its canonical text."""
    import jax

    from gptgan_jax.compiling.chips import CHIPS, Slice, load_slice
    from gptgan_jax.compiling.programs import Compiler, load_players
    from gptgan_jax.config.files import load_config

    class Texts(Compiler):
        """Collects the text of a program instead of its costs."""

        def compiled(self, name: str, jitted: Any, arguments: Any, *_: Any) -> Any:
            with jax.set_mesh(self.mesh):
                text = canonical(jitted.lower(*arguments).compile().as_text())
            (options.write / f"{stem}.{name}.hlo").write_text(text, encoding="utf-8")
            return text

    if options.topology:
        chips = load_slice(options.topology)
    else:
        chips = Slice("cpu", CHIPS["v5e"], (1, 1), jax.devices("cpu")[:1])
    for path in options.configs:
        stem = Path(path).stem
        config = load_config(path, [f"--{name}={value}" for name, value in SMALL.items()])
        compiler = Texts(config, load_players(config), chips)
        for name in options.programs or compiler.names:
            if name in compiler.names:
                compiler.program(name)


def canonical(text: str) -> str:
    """A module's text without incidental parts: names, numbers, source lines, the order of computations.

    A computation is named by a hash of its own text, and its values are numbered within it. So two modules that differ
    only in names have the same text, and a change in one computation shows there and at its calls.
    """
    names: dict[str, str] = {}
    bodies: dict[str, str] = {}
    entry = ""
    for head, lines in computations(text):  # callees come before their callers
        body = _numbered(lines, names)
        found = re.match(r"(ENTRY )?%?([\w.-]+)", head)
        assert found is not None, head
        name = f"computation_{hashlib.sha256(body.encode()).hexdigest()[:12]}"
        names[found[2]] = name
        if found[1]:
            entry = f"ENTRY {{\n{body}}}\n"
        else:
            bodies[name] = f"{name} {{\n{body}}}\n"
    return "\n".join([*(bodies[name] for name in sorted(bodies)), entry])


def computations(text: str) -> Iterator[tuple[str, list[str]]]:
    """The head and the instructions of each computation of a module."""
    head, lines = "", []
    for line in text.splitlines():
        if line.startswith("}"):
            yield head, lines
            head = ""
        elif head:
            lines.append(line.strip())
        elif line.endswith("{") and not line.startswith("HloModule"):
            head, lines = line, []


def _numbered(lines: list[str], names: dict[str, str]) -> str:
    """Instructions with values numbered in order; `names` are the new names of computations."""
    numbers: dict[str, str] = {}

    def renamed(found: re.Match[str]) -> str:
        name = found[1]
        return names.get(name) or numbers.setdefault(name, f"%{len(numbers)}")

    written = []
    for line in lines:
        line = re.sub(r', (metadata|frontend_attributes)=\{(?:[^{}"]|"(?:[^"\\]|\\.)*"|\{[^{}]*\})*\}', "", line)
        line = re.sub(r", (channel_id|stack_frame_id)=\d+", "", line)
        written.append(re.sub(r"%([\w.-]+)", renamed, line))
    return "\n".join(written) + "\n"


def report(folder: Path) -> int:
    """Reports whether each program is the same; returns 1 if one is not."""
    before, after = ({path.name for path in (folder / side).iterdir()} for side in ("before", "after"))
    changed = 0
    for name in sorted(before | after):
        program = name.removesuffix(".hlo")
        if name not in before or name not in after:
            print(f"{program}: only {'before' if name in before else 'now'}")
            changed += 1
            continue
        texts = [(folder / side / name).read_text(encoding="utf-8").splitlines() for side in ("before", "after")]
        if texts[0] == texts[1]:
            print(f"{program}: the same")
            continue
        changed += 1
        lines = [line for line in difflib.unified_diff(*texts, n=0, lineterm="") if not line.startswith(("---", "+++"))]
        gone, new = (sum(line.startswith(sign) for line in lines) for sign in "-+")
        print(f"{program}: {gone} lines less, {new} more; diff {folder}/before/{name} {folder}/after/{name}")
        print("\n".join(f"    {line[:160]}" for line in lines[:SHOWN]))
    print(f"{changed} of {len(before | after)} programs changed")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
