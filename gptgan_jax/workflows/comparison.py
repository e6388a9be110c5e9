"""Several adversarial methods from one likelihood training, over seeds: what `gptgan compare FILE` does.

For each seed, the base is trained by likelihood, and this training continues from its best checkpoint as a baseline.
Every arm starts its adversarial phase from that checkpoint, except for arms that are baselines themselves: trained from
scratch, by likelihood only. All are evaluated in the same way, and one table shows the results.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptgan_jax.config import Config
from gptgan_jax.config.checking import check_seeds, config_from, replaced
from gptgan_jax.config.files import override, set_key, with_absolute_paths
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.candidates import RERANKED, RESIDUAL
from gptgan_jax.objectives.classification import ClassificationConfig
from gptgan_jax.reports.arms import write_arms
from gptgan_jax.reports.arms_table import CONTINUED, LIKELIHOOD, Model
from gptgan_jax.reports.groups import controls_of
from gptgan_jax.reports.run import load_reported_run
from gptgan_jax.runs.experiment import Experiment, load_experiment, network_difference
from gptgan_jax.runs.fingerprint import check_same_teacher, check_starts
from gptgan_jax.runs.folder import RunFolder, slug_of
from gptgan_jax.runs.held_out import check_same_text
from gptgan_jax.runs.lock import locked
from gptgan_jax.runs.trained import build_networks
from gptgan_jax.schema.yaml_files import check_keys, mapping_of, own_copy, read_beside, read_yaml
from gptgan_jax.training.loop import check
from gptgan_jax.training.signals import NotFinite
from gptgan_jax.workflows.run import Say, is_finished, judge_run, train_run

Loader = Callable[[Config, AnyTokenizer | None], Experiment]

KEYS = ("base", "seeds", "set", "arms")
ARM_KEYS = ("preset", "set", "from_scratch")
# The sections of a method, which an arm takes from its preset. Keys of other sections are the same for all arms.
METHOD = ("discriminator", "objective", "warmup", "adversarial")
OF_SCRATCH = ("generator", "likelihood")  # the same for an arm that is trained from scratch
BASE_SLUG = "likelihood"


@dataclass(frozen=True)
class Arm:
    """One method.

    Attributes:
        name: as in FILE.
        slug: the name of its run folders, before the seed.
        config: of the first seed.
        from_scratch: whether it is a baseline: trained by likelihood only, from the same initialisation as the base.
    """

    name: str
    slug: str
    config: Config
    from_scratch: bool = False

    @property
    def label(self) -> str:
        """Its name in the report, which says if it is a control."""
        control = not self.from_scratch and controls_of(self.config) and not self.name.lower().startswith("control")
        return f"control: {self.name}" if control else self.name

    @property
    def columns(self) -> dict[str, str]:
        """The columns of its evaluation that the report compares, by their names in the report."""
        if self.from_scratch:
            return {self.label: "likelihood"}
        if not self.config.adversarial.steps:
            return {self.label: RESIDUAL}
        both = {f"{self.label}, resampling instead": RESIDUAL} if self.config.objective.residual_candidates else {}
        return {self.label: "adversarial"} | both


@dataclass(frozen=True)
class Comparison:
    """A comparison, as FILE describes it, checked.

    Attributes:
        file: FILE.
        folder: that of the run folders.
        seeds: of the runs.
        base: the likelihood training and its continuation, with the first seed.
        arms: at least one.
        cell: the name of the cell, if this is part of a study; otherwise empty.
        arguments: those after FILE on the command line.
    """

    file: Path
    folder: Path
    seeds: tuple[int, ...]
    base: Config
    arms: tuple[Arm, ...]
    cell: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Its name in messages."""
        return f"{self.file}: cell {self.cell}" if self.cell else str(self.file)

    def base_config(self, seed: int) -> Config:
        return dataclasses.replace(self.base, name=f"{BASE_SLUG}-seed{seed}", seed=seed)

    def arm_config(self, arm: Arm, seed: int) -> Config:
        if arm.from_scratch:
            return dataclasses.replace(arm.config, name=f"{arm.slug}-seed{seed}", seed=seed)
        start = os.path.abspath(RunFolder.of(self.base_config(seed)).path)
        return dataclasses.replace(arm.config, name=f"{arm.slug}-seed{seed}", seed=seed, init_from=start)


# ---- FILE


def load_comparison(
    path: str | Path, seeds: int | None = None, overrides: Sequence[str] = (), only: Sequence[str] = ()
) -> Comparison:
    """Reads FILE and builds the configuration of every run.

    Args:
        path: of FILE.
        seeds: their number, instead of FILE's.
        overrides: `--key.path value`, for every run; they win over FILE and the files that it names.
        only: the names of the wanted arms; empty for all.

    Raises:
        UserError: names FILE, and the arm if there is one.
    """
    comparison = build_comparison(read_yaml(Path(path)), Path(path), str(path), Path(path).stem, seeds, overrides)
    check_keys(only, [arm.name for arm in comparison.arms], f"{path}: ", "arm")
    arms = tuple(arm for arm in comparison.arms if not only or arm.name in only)
    chosen = [part for name in only for part in ("--arm", name)]
    return dataclasses.replace(comparison, arms=arms, arguments=arguments_of(seeds, [*chosen, *overrides]))


def arguments_of(seeds: int | None, others: Sequence[str]) -> tuple[str, ...]:
    """The arguments after FILE on the command line: the number of seeds, if given, and the others."""
    return (*(() if seeds is None else ("--seeds", str(seeds))), *others)


def build_comparison(
    raw: Mapping[str, Any],
    path: Path,
    where: str,
    name: str,
    seeds: int | None = None,
    overrides: Sequence[str] = (),
    cell: str = "",
    keys: Mapping[Any, Any] | None = None,
) -> Comparison:
    """A comparison from the content of a file.

    Args:
        raw: the content.
        path: of the file, to which the paths in it are relative.
        where: its name in messages.
        name: of the comparison, unless an override gives one.
        seeds, overrides: as in `load_comparison`.
        cell: for a cell of a study, the folder of its runs within the comparison's.
        keys: for a cell, the keys that it sets for every run, over `set` of the file.

    Raises:
        UserError: begins with `where`, and names the arm if there is one.
    """
    check_keys(raw, KEYS, f"{where}: ")
    if not isinstance(raw.get("base"), str):
        raise UserError(f"{where}: base should be a config file, such as oracle_lstm.yaml, not {raw.get('base')!r}")
    given, arms = raw.get("seeds", 1), mapping_of(raw, "arms", f"{where}: ")
    everywhere = [mapping_of(raw, "set", f"{where}: "), keys or {}]
    check_seeds(given, where)
    if not arms:
        raise UserError(f"{where}: arms should be at least one, on a line each, such as `reinforce: {{}}`")

    base_raw = read_beside(path, raw["base"], f"{where}: base")
    base_raw.pop("name", None)

    def built(raw_config: dict[str, Any], settings: Sequence[Mapping[Any, Any]], what: str) -> Config:
        """The configuration with these keys set; later settings win over earlier, and the command line over all."""
        try:
            for one in settings:
                for dotted, value in one.items():
                    set_key(raw_config, str(dotted), own_copy(value))
        except UserError as error:
            raise error.within(what) from None
        override(raw_config, overrides)
        raw_config.setdefault("name", name)
        return with_absolute_paths(config_from(raw_config, what))

    whole = built(own_copy(base_raw), everywhere, f"{where}: base {raw['base']}")
    base = _base_of(whole, where, cell)
    found: dict[str, Arm] = {}
    for arm_name, given_arm in arms.items():
        what = f"{where}: arm {arm_name}"
        arm = _arm_parts(given_arm, what)
        slug = _arm_slug(str(arm_name), what)
        if slug in found:
            raise UserError(f"{what}: its folder would be {slug}, as that of arm {found[slug].name}; rename one")
        raw_config = own_copy(base_raw)
        if "preset" in arm:
            preset = read_beside(path, arm["preset"], f"{what}: preset")
            raw_config = {key: value for key, value in raw_config.items() if key not in METHOD}
            raw_config |= {key: own_copy(preset[key]) for key in METHOD if key in preset}
        config = built(raw_config, [*everywhere, arm.get("set") or {}], what)
        own = _scratch_of(config, what, cell) if arm.get("from_scratch") else _arm_of(config, base, what)
        made = Arm(str(arm_name), slug, own, bool(arm.get("from_scratch")))
        for label in made.columns:
            if label in [taken for other in found.values() for taken in other.columns]:
                raise UserError(f"{what}: the report would call it {label}, as another arm; rename one")
        found[slug] = made
    last = base.seed + (given if seeds is None else seeds)
    return Comparison(path, Path(base.runs_folder), tuple(range(base.seed, last)), base, tuple(found.values()))


def _base_of(whole: Config, where: str, cell: str) -> Config:
    """The base without an adversarial phase; likelihood training continues for as many batches as that would have."""
    if not whole.likelihood.steps:
        raise UserError(f"{where}: base: likelihood.steps is 0, and the arms would have nothing to start from")
    sweep = whole.evaluation.sweep
    if 1.0 not in sweep.temperatures or 1.0 not in sweep.top_p:
        raise UserError(
            f"{where}: base: evaluation.sweep lacks temperature 1 or top_p 1, which the comparison reports; add them"
        )
    elsewhere = whole.checkpoints.folder
    return replaced(
        whole,
        f"{where}: base",
        runs_folder=str(Path(whole.runs_folder) / whole.name / cell),
        checkpoints=dataclasses.replace(
            whole.checkpoints, folder=elsewhere and os.path.join(elsewhere, whole.name, *filter(None, [cell]))
        ),
        continued=dataclasses.replace(whole.continued, steps=whole.steps("continued")),
        # No phase of the base trains its discriminator, which these would need.
        objective=dataclasses.replace(whole.objective, residual_candidates=0, classification=ClassificationConfig()),
        warmup=dataclasses.replace(whole.warmup, steps=0),
        adversarial=dataclasses.replace(whole.adversarial, steps=0),
    )


def _scratch_of(config: Config, where: str, cell: str) -> Config:
    """The configuration as an arm that is trained from scratch, by likelihood only."""
    base = _base_of(config, where, cell)
    return replaced(base, where, continued=dataclasses.replace(base.continued, steps=0))


def _arm_of(config: Config, base: Config, where: str) -> Config:
    """The configuration as an arm, which starts where the base's likelihood training ended."""
    if not config.adversarial.steps and not config.objective.residual_candidates:
        raise UserError(f"{where}: adversarial.steps is 0: nothing would train its generator")
    for line in network_difference(base, config):
        raise UserError(f"{where}: its generator is another network than the base's ({line}); set it for all arms")
    return replaced(
        config,
        where,
        runs_folder=base.runs_folder,
        checkpoints=base.checkpoints,
        init_from=str(Path(base.runs_folder) / BASE_SLUG),
        init_checkpoint="likelihood",
        init_vocabulary="same",
        likelihood=dataclasses.replace(config.likelihood, steps=0),
        continued=dataclasses.replace(config.continued, steps=0),
    )


def _arm_parts(given: Any, where: str) -> dict[str, Any]:
    """An arm's settings in FILE, with their keys checked."""
    arm = {} if given is None else given
    if not isinstance(arm, Mapping):
        raise UserError(f"{where} should be a mapping with some of {', '.join(ARM_KEYS)}, or empty, not {given!r}")
    check_keys(arm, ARM_KEYS, f"{where}: ")
    scratch = arm.get("from_scratch", False)
    if not isinstance(scratch, bool):
        raise UserError(f"{where}: from_scratch should be true or false, not {scratch!r}")
    if scratch and "preset" in arm:
        raise UserError(f"{where}: from_scratch trains by likelihood alone, and a preset is a method; drop one of them")
    own, fields = OF_SCRATCH if scratch else METHOD, {field.name for field in dataclasses.fields(Config)}
    for dotted in mapping_of(arm, "set", f"{where}: "):
        section = str(dotted).partition(".")[0]
        if section in fields - {*own, *(() if scratch else ("generator",))}:
            raise UserError(
                f"{where}: {dotted} is the same for all arms; set it beside `arms` (an arm"
                f"{' from scratch' * scratch} has its own {', '.join(own)})"
            )
    return dict(arm)


def _arm_slug(name: str, where: str) -> str:
    slug = slug_of(name, where)
    if slug == BASE_SLUG or name in (LIKELIHOOD, CONTINUED):
        raise UserError(f"{where}: this name is reserved for the baselines; choose another one")
    return slug


# ---- running


def compare(comparison: Comparison, say: Say) -> tuple[str, Path, dict[str, str]]:
    """Trains and evaluates what is not done yet, and writes the comparison.

    Returns: its table as Markdown, the path of its report, and why the training of a run failed, by run.

    Raises:
        UserError: before anything is written: a run is impossible (see `train`), or another process runs this.
        NotFinite: the likelihood training failed, from which the arms start.
        Interrupted: a signal came; the same comparison resumes from there.
    """
    check_runs(comparison)
    failed: dict[str, str] = {}
    folders: dict[str, dict[int, RunFolder]] = {}
    with locked(comparison.folder, say):
        for seed in comparison.seeds:
            runs = {LIKELIHOOD: comparison.base_config(seed)}
            runs |= {arm.label: comparison.arm_config(arm, seed) for arm in comparison.arms}
            for label, config in runs.items():
                folder = RunFolder.of(config)
                say(f"\n{label}, seed {seed}: {folder.path}")
                try:
                    folder = folder if is_finished(folder, config) else train_run(config, say)
                except NotFinite as error:
                    if label == LIKELIHOOD:
                        raise
                    say(f"failed: {error}")
                    failed[config.name] = str(error)
                    continue
                judge_run(folder, say, sweep=True)
                folders.setdefault(label, {})[seed] = folder
        return (*write_comparison(comparison, folders, failed), failed)


def write_comparison(
    comparison: Comparison, folders: Mapping[str, Mapping[int, RunFolder]], failed: Mapping[str, str]
) -> tuple[str, Path]:
    """Writes the report of a comparison whose runs are trained and swept, next to them.

    Args:
        comparison: of these runs.
        folders: of the runs, by `Arm.label` and seed; those of likelihood training for every seed.
        failed: why the training of a run failed, by run.

    Returns: its table as Markdown, and the path of its report.
    """
    evaluated = {
        label: {seed: load_reported_run(folder) for seed, folder in of_label.items()}
        for label, of_label in folders.items()
    }
    base, best_of = evaluated[LIKELIHOOD], comparison.base.evaluation.best_of
    models = [Model(LIKELIHOOD, LIKELIHOOD, base)]
    models += [Model(CONTINUED, "continued", base)] if comparison.base.steps("continued") else []
    models += [Model(f"{LIKELIHOOD}, best of {best_of}", RERANKED, base)] if best_of else []
    models += [
        Model(label, column, evaluated.get(arm.label, {}))
        for arm in comparison.arms
        for label, column in arm.columns.items()
    ]
    out = comparison.folder / "comparison"
    command = ["gptgan", "study" if comparison.cell else "compare", str(comparison.file), *comparison.arguments]
    table = write_arms(models, comparison.seeds, comparison.file, out, failed, comparison.cell, command)
    return table, out / "report.html"


def check_runs(comparison: Comparison, load: Loader = load_experiment) -> None:
    """Raises UserError if a run that is not trained yet would be refused, before the first run is trained.

    `load` returns the text and networks of the first run, given its tokenizer if it exists already.
    """
    if RunFolder(comparison.folder).config_file.exists():
        raise UserError(f"{comparison.folder} is a run folder; choose another --name for the comparison")
    seeds, arms = comparison.seeds, comparison.arms
    runs = {(BASE_SLUG, seed): comparison.base_config(seed) for seed in seeds}
    runs |= {(arm.slug, seed): comparison.arm_config(arm, seed) for arm in arms for seed in seeds}
    check_starts(runs.values())
    done = {run: is_finished(RunFolder.of(config), config) for run, config in runs.items()}
    if all(done.values()):
        return
    first = runs[BASE_SLUG, seeds[0]]
    folder = RunFolder.of(first)
    experiment = load(first, folder.read_tokenizer() if folder.check(first) else None)
    texts = {bool(first.objective.rewards): experiment}
    for paid, one in {bool(one.objective.rewards): one for one in runs.values()}.items():
        if paid not in texts:  # the text of runs with rewards has right answers to training prompts too
            texts[paid] = load(one, experiment.tokenizer)
    for one in runs.values():  # finished ones too: all are compared on one text, and distilled from one teacher
        if (begun := RunFolder.of(one)).config_file.exists():
            check_same_text(begun.path, texts[bool(one.objective.rewards)])
            check_same_teacher(begun.path, one)
    check(experiment, folder)
    todo = {arm.name: runs[arm.slug, seed] for arm in arms for seed in reversed(seeds) if not done[arm.slug, seed]}
    for name, config in todo.items():
        try:
            players = build_networks(config, experiment.tokenizer.vocabulary, experiment.corpus.classes)
            trial = dataclasses.replace(
                texts[bool(config.objective.rewards)], config=config, generator=players[0], discriminator=players[1]
            )
            check(trial, RunFolder.of(config))
        except UserError as error:
            raise error.within(f"{comparison.where}: arm {name}") from None
