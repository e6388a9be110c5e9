"""`gptgan compare`: several methods from one likelihood training, over seeds; `gptgan study`: the same over a grid."""

import os
import sys

from gptgan_jax.cli.config_commands import ConfigCommand, Flag, Given
from gptgan_jax.cli.train import count_from, seeds_from, to_its_end
from gptgan_jax.system.terminal import configure_jax, say

MOST_WORKERS = 9999

_DESCRIPTION = """
Trains several adversarial methods from one likelihood training and compares them with it, over seeds. FILE is YAML:

  base: oracle_lstm.yaml          # a config, relative to FILE: text, networks, likelihood training, evaluation
  seeds: 3                        # default 1; counted up from the base's seed
  set: {adversarial.steps: 200}   # keys of every run
  arms:
    reinforce: {}                 # the base's own method
    seqgan: {preset: seqgan.yaml, set: {warmup.steps: 100}}    # another config's discriminator, objective, warmup and
                                                               # adversarial sections, and keys over them
    constant reward: {set: {objective.reward: constant}}       # a control
    twice as long: {from_scratch: true, set: {likelihood.steps: 8000}}   # a baseline of equal compute or equal
                                                               # parameters: likelihood training only, with its own
                                                               # keys in generator and likelihood

NAME is FILE's name without its ending. For each seed it trains and sweeps runs/NAME/likelihood-seedK (with the
continued likelihood training), and from its best checkpoint runs/NAME/ARM-seedK for each arm. It then writes
report.html, report.md and comparison.json to runs/NAME/comparison and prints the table. Repeat the command to resume
what is not done yet. --key.path value sets a key of every run and overrides all files; gptgan train --help lists the
keys."""


def _compare(given: Given) -> int:
    from gptgan_jax.workflows.comparison import compare as compare_methods
    from gptgan_jax.workflows.comparison import load_comparison

    arms = given.flags.get("--arm", ())
    comparison = load_comparison(given.file, seeds_from(given.value("--seeds")), given.overrides, arms)
    configure_jax()

    def work() -> int:
        table, report, failed = compare_methods(comparison, say)
        print(f"\n{table}\n\nreport: {report}")
        for run, reason in failed.items():
            print(f"gptgan: {run} failed: {reason}", file=sys.stderr)
        return 1 if failed else 0

    return to_its_end(work)


_STUDY = """
Repeats a comparison in the cells of a grid, such as sizes of the generator and amounts of text. FILE is YAML:

  compare: compare_recommended.yaml    # a file of gptgan compare, relative to FILE; or give its base, set and arms here
  seeds: 3                             # for every cell
  set: {likelihood.steps: 4000}        # keys of every run
  cells:                               # all combinations of:
    generator.width: [8, 16, 32]       # an axis: a key of a config and its values
    discriminator:                     # or a name of your own, with named points that each set several keys
      small: {discriminator.layers: 1, discriminator.width: 16}
      large: {discriminator.layers: 2, discriminator.width: 96}
  report:                              # optional
    along: generator.width             # the x axis of each plot
    lines: discriminator               # the axis whose points are the lines; by default the axes with the most effect
    figures: [Jensen-Shannon divergence]   # columns besides the gains; by default all that the source of text allows

Instead of axes, cells may be a list of {name: NAME, set: {key: value}}. An arm's own keys override the cell's.
Cells that differ only after likelihood training share its runs. Every run is a process of its own, N at a time: on a
CPU each gets its share of the cores, on GPUs and TPUs a device of its own; a single worker gets all devices.
NAME is FILE's name without its ending. runs/NAME/CELL holds the runs and the comparison of a cell and cell.json,
runs/NAME/logs the output of each run, and runs/NAME report.html and report.md. The table is printed. A run that fails
is reported and does not stop the others. Ctrl-C and SIGTERM save the running ones; repeat the command to resume what is
not done yet. --key.path value sets a key of every run; gptgan train --help lists the keys."""


def _study(given: Given) -> int:
    from gptgan_jax.studies.devices import cores_here, leave_accelerators, slots_of, this_machine
    from gptgan_jax.studies.study import preview_study, report_study, run_study
    from gptgan_jax.studies.study_file import load_study

    workers = count_from("--workers", given.value("--workers"), MOST_WORKERS)
    study = load_study(given.file, seeds_from(given.value("--seeds")), given.overrides)
    machine = this_machine()
    slots = slots_of(machine, workers, os.environ, cores_here())
    leave_accelerators(1 if len(slots) > 1 else machine.count if machine.kind != "cpu" else 1)
    configure_jax()
    if given.value("--dry-run") is not None:
        print("\n".join(preview_study(study, slots)))
        return 0

    def work() -> int:
        only_report = given.value("--report") is not None
        table, report, failed = report_study(study, say) if only_report else run_study(study, slots, say)
        print(f"\n{table}\n\nreport: {report}")
        for line in failed:
            print(f"gptgan: {line}", file=sys.stderr)
        return 1 if failed else 0

    return to_its_end(work)


STUDY = ConfigCommand(
    "study",
    "repeat a comparison over a grid of settings, to see where a method gains",
    _STUDY,
    (
        Flag("--seeds", "number of seeds, in place of the file's", "N"),
        Flag("--workers", "run N at a time (default: 1; on GPUs and TPUs one per device)", "N"),
        Flag("--dry-run", "list the cells, their parameters and what is already done; write nothing"),
        Flag("--report", "only write the report of the finished cells; run nothing"),
    ),
    _study,
    file="FILE",
    example="FILE",
)
COMPARE = ConfigCommand(
    "compare",
    "train several adversarial methods from one likelihood training and compare them",
    _DESCRIPTION,
    (
        Flag("--seeds", "number of seeds, in place of the file's", "N"),
        Flag("--arm", "train only this arm, beside the baselines; may be repeated", "NAME"),
    ),
    _compare,
    file="FILE",
    example="FILE",
)
