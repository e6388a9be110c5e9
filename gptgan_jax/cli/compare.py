"""`gptgan compare`: several methods from one likelihood training, over seeds; `gptgan study`: that in many cells."""

import os
import sys

from gptgan_jax.cli.config_commands import ConfigCommand, Flag, Given
from gptgan_jax.cli.train import count_from, seeds_from, to_its_end
from gptgan_jax.system.terminal import configure_jax, say

MOST_WORKERS = 9999

_DESCRIPTION = """
Trains several adversarial methods from one likelihood training and compares them with it, over seeds. FILE is YAML:

  base: oracle_lstm.yaml          # a config, from FILE's folder: text, networks, likelihood training, evaluation
  seeds: 3                        # default 1; from the base's seed on
  set: {adversarial.steps: 200}   # keys of every run
  arms:
    reinforce: {}                 # the base's own method
    seqgan: {preset: seqgan.yaml, set: {warmup.steps: 100}}    # another config's discriminator, objective, warmup and
                                                               # adversarial sections, and keys over them
    constant reward: {set: {objective.reward: constant}}       # a control
    twice as long: {from_scratch: true, set: {likelihood.steps: 8000}}   # a baseline of as much compute, or as many
                                                               # parameters: likelihood alone, with keys of its own in
                                                               # generator and likelihood

NAME is FILE's name without its ending. For each seed it trains and sweeps runs/NAME/likelihood-seedK (with the
continued likelihood training), and from its best runs/NAME/ARM-seedK for each arm; then runs/NAME/comparison has
report.html, report.md and comparison.json, and the table is printed. The same command again goes on with what is not
done yet. --key.path value sets a key of every run, over all files; gptgan train --help lists the keys."""


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

  compare: compare_recommended.yaml    # a file of gptgan compare, from FILE's folder; or its base, set and arms in here
  seeds: 3                             # of every cell
  set: {likelihood.steps: 4000}        # keys of every run
  cells:                               # all combinations of:
    generator.width: [8, 16, 32]       # an axis: a key of a config and its values
    discriminator:                     # or a name of your own and its points, each of which sets several keys
      small: {discriminator.layers: 1, discriminator.width: 16}
      large: {discriminator.layers: 2, discriminator.width: 96}
  report:                              # may be left out
    along: generator.width             # the axis along each picture
    lines: discriminator               # and that of which each point is a line; by default those of most effect
    figures: [Jensen-Shannon divergence]   # columns besides the gains; by default all that the source of text allows

In place of axes, cells may be a list of {name: NAME, set: {key: value}}. An arm's own keys win over the cell's.
Cells that differ only in what judges share their likelihood runs. Every run is a process of its own, N at a time:
on a processor each with its share of the cores, on GPUs and TPUs each with a device of its own; a single worker has
all devices. NAME is FILE's name without its ending. runs/NAME/CELL has the runs and the comparison of a cell, and
cell.json; runs/NAME/logs what each run said; runs/NAME report.html and report.md, and the table is printed.
Runs that fail are told of, and don't stop the others. Ctrl-C and SIGTERM save what runs; the same command goes on
with what is not done yet. --key.path value sets a key of every run; gptgan train --help lists the keys."""


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
    "repeat a comparison over a grid of settings: where does a method gain?",
    _STUDY,
    (
        Flag("--seeds", "over so many seeds, in place of the file's", "N"),
        Flag("--workers", "run N at a time; by default 1, on GPUs and TPUs one on each", "N"),
        Flag("--dry-run", "list the cells, their parameters and what is done; write nothing"),
        Flag("--report", "write the report of the cells that are done, and run nothing"),
    ),
    _study,
    file="FILE",
    example="FILE",
)
COMPARE = ConfigCommand(
    "compare",
    "train several adversarial methods from one likelihood training, and compare",
    _DESCRIPTION,
    (
        Flag("--seeds", "over so many seeds, in place of the file's", "N"),
        Flag("--arm", "only the arms that are so named, each by its own --arm, beside the baselines", "NAME"),
    ),
    _compare,
    file="FILE",
    example="FILE",
)
