"""`gptgan compare`: several adversarial methods from one likelihood training, over seeds."""

import sys
from collections.abc import Sequence

from gptgan_jax.cli.train import seeds_from, to_its_end
from gptgan_jax.errors import UserError
from gptgan_jax.system.terminal import configure_jax, say, taken

_HELP = """usage: gptgan compare FILE [--seeds N] [--key.path value ...]

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
done yet. --key.path value sets a key of every run, over all files; gptgan train --help lists the keys.
"""


def compare(arguments: Sequence[str]) -> int:
    from gptgan_jax.workflows.comparison import compare as compare_methods
    from gptgan_jax.workflows.comparison import load_comparison

    if "-h" in arguments or "--help" in arguments:
        print(_HELP, end="")
        return 0
    if not arguments or arguments[0].startswith("-"):
        raise UserError("give a file first: gptgan compare FILE [--seeds N] [--key.path value ...]; see --help")
    seeds, overrides = taken(arguments[1:], "--seeds")
    comparison = load_comparison(arguments[0], seeds_from(seeds), overrides)
    configure_jax()

    def work() -> int:
        table, report, failed = compare_methods(comparison, say)
        print(f"\n{table}\n\nreport: {report}")
        for run, reason in failed.items():
            print(f"gptgan: {run} failed: {reason}", file=sys.stderr)
        return 1 if failed else 0

    return to_its_end(work)
