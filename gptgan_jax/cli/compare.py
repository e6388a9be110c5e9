"""`gptgan compare`: several adversarial methods from one likelihood training, over seeds."""

import sys

from gptgan_jax.cli.config_commands import ConfigCommand, Flag, Given
from gptgan_jax.cli.train import seeds_from, to_its_end
from gptgan_jax.system.terminal import configure_jax, say

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
