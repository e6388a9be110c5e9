"""Previews of a run without training or writing anything: `gptgan train --dry-run`, and of its text, `gptgan data`."""

from collections.abc import Callable, Iterator

import numpy as np

from gptgan_jax.checkpoints.manager import state_bytes
from gptgan_jax.config import PHASES, Config
from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.data.holding_out import note_line
from gptgan_jax.mixtures.plan import table
from gptgan_jax.runs.experiment import Experiment, load_experiment
from gptgan_jax.runs.fingerprint import check_same_teacher
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import check_same_text
from gptgan_jax.system.terminal import in_columns
from gptgan_jax.training.phases import optimizers_of
from gptgan_jax.training.run import Run
from gptgan_jax.workflows.extension import ExtendedFolder

Say = Callable[[str], None]


def text_lines(experiment: Experiment, say: Say) -> list[str]:
    """A summary of a run's text: a table of its sources. The notes at the start of a run are passed to `say`."""
    for note in experiment.notes:
        say(note_line(note))
    if getattr(experiment.config.data, "store", None) is not None and not experiment.stores:
        say("note: tokens are estimated from the text in memory; gptgan tokenize counts them and writes the store")
    return table(experiment.plan)


def preview(config: Config, say: Say, extend: bool = False) -> list[str]:
    """What `gptgan train` would do with a configuration, in lines; nothing is written and no step is compiled.

    Args:
        config: of the run.
        say: receives one line of output at a time.
        extend: whether to resume with longer phases.

    Raises:
        UserError: whatever `gptgan train` would raise before it writes anything.
    """
    folder = ExtendedFolder.of(config) if extend else RunFolder.of(config)
    there = folder.check(config)
    experiment = load_experiment(config, folder.read_tokenizer() if there else None, say, make_stores=False)
    run = Run(experiment, folder, say)
    try:
        if there:
            check_same_text(folder.path, experiment)
            check_same_teacher(folder.path, config)
        run.check_resources()
        return [
            *text_lines(experiment, say),
            "",
            *(_split_line(name, split, experiment) for name, split in _splits(experiment)),
            "",
            *run.summary(),
            "",
            *_memory(run),
            "",
            *(folder.news(config) if isinstance(folder, ExtendedFolder) else ()),
            *_written(run, there),
        ]
    finally:
        run.text_rewards.close()


def _splits(experiment: Experiment) -> Iterator[tuple[str, TokenisedSplit]]:
    yield "train", experiment.train
    yield "valid", experiment.valid
    if experiment.test is not experiment.valid:
        yield "test", experiment.test


def _split_line(name: str, split: TokenisedSplit, experiment: Experiment) -> str:
    """The texts and tokens of a split, and the shares that are cut off or unknown."""
    tokens, lengths = split.targets.tokens, np.diff(split.targets.offsets)
    words = len(tokens) + (0 if split.prompts is None else len(split.prompts.tokens))
    return (
        f"{name}: {len(split):,} texts, {len(tokens):,} tokens, {lengths.mean():.1f} per text (95 % have at most "
        f"{np.quantile(lengths, 0.95):.0f} of {split.max_length}); {split.cut_share:.1%} cut off, "
        f"{split.unknown_tokens / max(words, 1):.1%} unknown"
    )


def _memory(run: Run) -> list[str]:
    """The memory of the state in each phase, and of the gradients of the players trained in it."""
    rows: list[tuple[str, ...]] = [("phase", "steps", "parameters", "optimizers", "all of the state", "gradients")]
    for phase in (phase for phase in PHASES if run.config.steps(phase)):
        state = run.target(phase)
        players = state.generator, state.discriminator
        moving = run.gans[phase].learning.only(state)
        optimizers = zip((moving.generator, moving.discriminator), optimizers_of(run.config, phase), strict=True)
        learners = [player for player, optimizer in optimizers if optimizer is not None]
        sizes = (
            sum(state_bytes(player.params) for player in players),
            sum(state_bytes(player.opt_state) for player in players),
            state_bytes(state),
            sum(state_bytes(player.params) for player in learners),
        )
        rows.append((phase, f"{run.config.steps(phase):,}", *(f"{size / 1e6:,.1f} MB" for size in sizes)))
    return [
        *in_columns(rows, to_the_right=range(1, 6)),
        "memory over all devices; activations, which grow with batch and length, come on top: gptgan compile",
    ]


def _written(run: Run, there: bool) -> list[str]:
    """The files that a run would write."""
    config, folder = run.config, run.folder
    where = folder.checkpoints_of(config)
    lines = [
        f"{'would resume' if there else 'would write'} {folder.path}: config.yaml, tokenizer, held-out text, "
        "metrics.jsonl, samples.txt, evaluation.json, report.html and report.md",
        f"checkpoints: {where}, up to {run.checkpoint_bytes() / 1e6:,.0f} MB",
    ]
    store = getattr(config.data, "store", None)
    if store is not None:
        lines.append(f"token store: {store}")
    if config.records.wandb_project is not None:
        lines.append(f"Weights & Biases: project {config.records.wandb_project}")
    return [*lines, "nothing was written"]
