"""A comparison groups repeats, calls controls controls, and joins only what was measured alike."""

import dataclasses
import json
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from reported import check_self_contained, evaluation, make_run, sweep

from gptgan_jax.config import AdversarialPhase, CheckpointConfig, Config, ObjectiveConfig, RecordsConfig
from gptgan_jax.data.config import GrammarData
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import Evaluation, Score
from gptgan_jax.metrics.estimates import REAL, Estimate
from gptgan_jax.models.discriminator_networks import LinearConfig
from gptgan_jax.reports.comparison import write_comparison
from gptgan_jax.reports.groups import groups_of
from gptgan_jax.reports.run import ReportedRun, load_reported_run
from gptgan_jax.runs.folder import RunFolder

RANDOM = ObjectiveConfig(reward="random")
FROZEN = AdversarialPhase(freeze_discriminator=True)


def unread(*configs: Config) -> list[ReportedRun]:
    return [ReportedRun(Path(f"/runs/{i}"), config, [], evaluation()) for i, config in enumerate(configs)]


def labels(*configs: Config) -> list[str]:
    return [group.label for group in groups_of(unread(*configs))]


def judged(nll: float, signature: str = "99 texts", **changes: Any) -> Evaluation:
    values = {"likelihood": Estimate(nll, 0.1), "adversarial, best": Estimate(nll + 1, 0.1), REAL: Estimate(1.5, 0.2)}
    return evaluation(scores=[Score("held-out NLL", "nats/token", signature, "lower", values)], **changes)


def compare(runs: Sequence[ReportedRun], folder: Path) -> str:
    """report.md of a comparison whose report.html is self-contained."""
    path = write_comparison(runs, folder)
    assert path == folder / "report.html"
    check_self_contained(path.read_text(encoding="utf-8"))
    return (folder / "report.md").read_text(encoding="utf-8")


def rows_under(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its heads."""
    lines = text[text.index(f"{heading}\n") :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows[2:]


# ---- groups


def test_runs_that_differ_in_seed_name_and_places_only_are_one_group() -> None:
    same = Config(
        name="b",
        seed=1,
        runs_folder="elsewhere",
        records=RecordsConfig(tensorboard=False),
        checkpoints=CheckpointConfig(keep=5),
    )
    (group,) = groups_of(unread(Config(name="a"), same))
    assert group.label == "base"
    assert [run.config.seed for run in group.runs] == [0, 1]
    assert len(groups_of(unread(Config(), Config(vocab_size=7)))) == 2
    assert len(groups_of(unread(Config(), Config(data=GrammarData(seed=1))))) == 2


def test_a_folder_given_twice_counts_once(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    again = dataclasses.replace(run, folder=run.folder / ".." / run.folder.name)
    (group,) = groups_of([run, again])
    assert group.runs == (run,)


def test_a_label_is_what_differs_from_base_which_is_nearest_to_all_others() -> None:
    longer, bounded = Config(vocab_size=7), Config(objective=ObjectiveConfig(kl_weight=0.5))
    assert labels(Config(), longer) == ["base", "vocab_size: 7"]
    assert labels(longer, Config()) == ["base", "vocab_size: null"], "the first, where two are as near"
    assert labels(longer, bounded, Config()) == ["vocab_size: 7", "objective.kl_weight: 0.5", "base"]


def test_a_label_is_short_and_still_its_own() -> None:
    other = Config(discriminator=LinearConfig())
    assert labels(Config(), other) == ["base", "discriminator.kind: linear"]
    near = [Config(vocab_size=size) for size in (5, 6, 7)]
    both = labels(Config(), *near, other, Config(discriminator=LinearConfig(embedding=5)))
    assert both[0] == "base"
    assert both[4:] == ["discriminator.kind: linear (1)", "discriminator.kind: linear (2)"]
    many = Config(
        vocab_size=7, objective=ObjectiveConfig(kl_weight=0.5, entropy_weight=0.5, temperature=2.0, dense=False)
    )
    assert labels(Config(), many)[1] == "vocab_size: 7, objective.dense: false, objective.temperature: 2.0, 2 more"


def test_controls_are_called_controls_and_are_no_base() -> None:
    random, constant = Config(objective=RANDOM), Config(objective=ObjectiveConfig(reward="constant"))
    assert labels(random, Config()) == ["control: objective.reward: random", "base"]
    assert labels(Config(), constant)[1] == "control: objective.reward: constant"
    assert labels(Config(), Config(adversarial=FROZEN))[1] == "control: adversarial.freeze_discriminator: true"
    assert labels(random) == ["control: objective.reward: random"]
    both = Config(objective=RANDOM, vocab_size=7)
    assert labels(random, both)[1] == "control: objective.reward: random, vocab_size: 7"
    assert labels(Config(), Config(objective=ObjectiveConfig(reward="logit")))[1] == "objective.reward: logit"


# ---- the document


def test_the_figures_are_means_over_seeds_with_their_interval_or_one_runs_own(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, f"base-{i}", judged(nll), last=5, seed=i) for i, nll in enumerate((2.0, 2.5, 3.6))]
    runs.append(make_run(tmp_path, "control", judged(4.0), last=5, objective=RANDOM))
    text = compare(runs, tmp_path / "out")
    assert rows_under(text, "### Likelihood") == [
        [
            "held-out NLL (nats/token)",
            "↓",
            "2.700 (0.667 to 4.733; sd 0.819)",
            "4.000 ± 0.100 (1 run)",
            "1.500 ± 0.200",
            "99 texts",
        ]
    ]
    assert rows_under(text, "### Adversarial, best")[0][2] == "3.700 (1.667 to 5.733; sd 0.819)"
    assert "With 1 run it is the run's own figure" in text
    compared = rows_under(text, "## What is compared")
    folders = ", ".join(str(tmp_path / f"base-{i}") for i in range(3)).replace("_", "\\_")
    assert compared[0] == ["base", "3", "0, 1, 2", folders]
    assert [row[:3] for row in compared[1:]] == [["control: objective.reward: random", "1", "0"]]
    assert "signatures differ" not in text
    assert "ATTENTION" not in text


def test_rows_of_other_signatures_or_units_are_not_joined_and_a_note_says_so(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, "a", judged(2.0), last=0),
        make_run(tmp_path, "b", judged(3.0, "98 texts"), last=0, seed=1),
        make_run(tmp_path, "c", judged(4.0), last=0, seed=2),
    ]
    text = compare(runs, tmp_path / "out")
    rows = rows_under(text, "### Likelihood")
    assert [row[2] for row in rows] == ["3.000 (-9.706 to 15.706; sd 1.414)", "3.000 ± 0.100 (1 run)"]
    assert [row[-1] for row in rows] == ["99 texts", "98 texts"]
    assert "- The signatures differ: a row for each way of measuring, not joined, of held-out NLL.\n" in text
    (score,) = runs[2].evaluation.scores
    other = dataclasses.replace(runs[2], evaluation=evaluation(scores=[dataclasses.replace(score, unit="bits/token")]))
    rows = rows_under(compare([runs[0], other], tmp_path / "out"), "### Likelihood")
    assert [row[0] for row in rows] == ["held-out NLL (nats/token)", "held-out NLL (bits/token)"]


def copying(parent: Path, seeds: Sequence[int], nlls: Sequence[float], bases: Sequence[str]) -> list[ReportedRun]:
    """Runs of one configuration whose likelihood column is copied from other runs."""
    runs = []
    for seed, nll, base in zip(seeds, nlls, bases, strict=True):
        own = judged(nll, sweep=sweep(0.1 + 0.01 * seed))
        (score,) = own.scores
        score = dataclasses.replace(score, values=score.values | {"likelihood": Estimate(2.714, 0.1)})
        columns = [dataclasses.replace(own.columns[0], run=base), *own.columns[1:]]
        whole = dataclasses.replace(own, scores=[score], columns=columns)
        runs.append(make_run(parent, f"run-{seed}", whole, last=0, seed=seed, init_from="/runs/A"))
    return runs


def test_a_baseline_that_several_runs_copied_from_one_run_counts_once(tmp_path: Path) -> None:
    text = compare(copying(tmp_path, (0, 1, 2), (2.0, 2.1, 2.2), ["/runs/A"] * 3), tmp_path / "out")
    assert rows_under(text, "### Likelihood")[0][2] == "2.714 ± 0.100 (1 run, shared)"
    assert rows_under(text, "### Adversarial, best")[0][2] == "3.100 (2.852 to 3.348; sd 0.100)"
    assert "- Shared: a baseline that several runs copied from the run that they started from counts once." in text
    shared = "likelihood is 1 run, shared by 3"
    assert f"- base: {shared}; the intervals don't cover the baseline's training\n" in text
    assert f"reach in all runs (3); {shared}, whose training the intervals don't cover" in text
    best = text[text.index("| chosen by least") :]
    runs = {row[1]: row[-1] for row in rows_under(f"x\n{best}", "x")}
    assert (runs["likelihood"], runs["adversarial"]) == ("1", "3")


def test_baselines_of_several_runs_count_as_often_as_there_are_of_them(tmp_path: Path) -> None:
    runs = copying(tmp_path, (0, 1, 2), (2.0, 2.1, 2.2), ["/runs/A", "/runs/A", "/runs/B"])
    text = compare(runs, tmp_path / "out")
    assert rows_under(text, "### Likelihood")[0][2] == "2.714 (2.714 to 2.714; sd 0.000; 2 runs, shared)"
    own = copying(tmp_path / "own", (0, 1, 2), (2.0, 2.1, 2.2), ["/runs/A", "/runs/B", "/runs/C"])
    text = compare(own, tmp_path / "out")
    assert rows_under(text, "### Likelihood")[0][2] == "2.714 (2.714 to 2.714; sd 0.000)"
    assert "hared" not in text


def test_a_run_without_a_row_that_others_have_is_counted(tmp_path: Path) -> None:
    values = {"likelihood": Estimate(0.5, 0.1), REAL: Estimate(0.9)}
    mauve = Score("MAUVE", "", "99 texts", "higher", values)
    runs = []
    for seed in range(3):
        whole = judged(2.0 + seed)
        scores = [*whole.scores, *([mauve] if seed < 2 else [])]
        runs.append(make_run(tmp_path, f"run-{seed}", dataclasses.replace(whole, scores=scores), last=0, seed=seed))
    nothing = Evaluation(columns=[], scores=[], shown={}, prompts=[], notes=[])
    runs.append(make_run(tmp_path, "not evaluated", nothing, last=0, seed=3))
    nll, found = rows_under(compare(runs, tmp_path / "out"), "### Likelihood")
    assert nll[2] == "3.000 (0.516 to 5.484; sd 1.000)"
    assert found[2] == "0.500 (0.500 to 0.500; sd 0.000; 2 of 3 runs)"
    assert "0.500 ± 0.100 (1 of 2 runs)" in compare(runs[1:], tmp_path / "out")


def test_runs_of_one_configuration_on_other_text_are_no_seeds(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, f"run-{seed}", judged(2.0 + seed), last=0, seed=seed) for seed in range(4)]
    for run, fingerprint in zip(runs, ("a", "a", "b"), strict=False):
        facts = json.dumps({"fingerprint": fingerprint, "notes": [run.config.name]})
        np.savez(run.folder / "held_out.npz", test_target_tokens=np.arange(3), facts=np.array(facts))
    text = compare(runs, tmp_path / "out")
    assert "on different text" in text[: text.index("## What is compared")]
    groups = rows_under(text, "## What is compared")
    assert [row[:3] for row in groups] == [["base (1)", "3", "0, 1, 3"], ["base (2)", "1", "2"]]
    assert "- base (2): its text is not that of base (1), though its configuration is: a file behind data has" in text
    assert rows_under(text, "### Likelihood")[0][3] == "4.000 ± 0.100 (1 run)"
    assert "ATTENTION" not in compare([runs[0], runs[1], runs[3]], tmp_path / "out")


def test_other_text_is_compared_under_a_warning_with_its_own_real_text(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, "a", judged(2.0), last=0),
        make_run(tmp_path, "b", judged(3.0), last=0, data=GrammarData(seed=1)),
    ]
    text = compare(runs, tmp_path / "out")
    assert "on different text" in text[: text.index("## What is compared")]
    heads = next(line for line in text.splitlines() if line.startswith("| score"))
    assert [cell.strip().replace("\\", "") for cell in heads.strip("|").split(" | ")] == [
        *("score", "better", "base", "data.seed: 1", "real text of base", "real text of data.seed: 1", "measured with")
    ]


def test_sweeps_are_judged_over_the_seeds_of_each_group(tmp_path: Path) -> None:
    skills = (0.1, 0.11, 0.12)
    runs = [
        make_run(tmp_path, f"base-{i}", judged(2.0, sweep=sweep(skill)), last=0, seed=i)
        for i, skill in enumerate(skills)
    ]
    runs += [make_run(tmp_path, "control", judged(2.0, sweep=sweep(0.0)), last=0, objective=RANDOM)]
    text = compare(runs, tmp_path / "out")
    area = rows_under(text, "### Quality at equal diversity")
    assert [row[0] for row in area] == ["base"] * 2 + ["control: objective.reward: random"] * 2
    assert [row[2] for row in area] == ["adversarial against likelihood", "adversarial against continued"] * 2
    assert [row[3] for row in area] == ["+0.110", "+0.110", "+0.000", "+0.000"]
    assert [row[-1] for row in area] == ["3", "3", "1", "1"]
    low, high = (float(end) for end in area[0][4].split(" to "))
    assert 0.08 < low < 0.11 < high < 0.14
    assert area[2][4] == "–"
    base = text[text.index("### base: level by level") :]
    assert [row[-1] for row in rows_under(base, "### base: level by level, and best temperature")] == ["higher"] * 10
    assert "bars: one standard error over runs\n" in text
    assert imread(tmp_path / "out" / "frontier-1.png").shape[1] == 800
    assert "signatures" not in text


def test_sweeps_that_were_measured_otherwise_are_left_out_with_a_note(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, "a", judged(2.0, sweep=sweep()), last=0),
        make_run(tmp_path, "b", judged(2.0, sweep=sweep(signature="30 texts")), last=0, seed=1),
        make_run(tmp_path, "c", judged(2.0), last=0, seed=2),
        make_run(tmp_path, "d", judged(2.0, sweep=sweep(signature="30 texts")), last=0, objective=RANDOM),
    ]
    text = compare(runs, tmp_path / "out")
    assert "- base: of 2 sweeps only 1 share axes and signatures" in text
    assert "- base: 1 of 3 runs have no sweep" in text
    assert "- control: objective.reward: random: the signatures differ from those of the first group's sweep" in text
    assert [row[-1] for row in rows_under(text, "### Quality at equal diversity")] == ["1"] * 4


def test_all_parts_stand_in_their_order(tmp_path: Path) -> None:
    whole = judged(2.0, sweep=sweep(), prompts=["a question"])
    runs = [
        make_run(tmp_path, "a", whole, alarm="odd"),
        make_run(
            tmp_path,
            "b'",
            dataclasses.replace(whole, notes=["± is one standard error over texts. Seed 1.", "only here"]),
            seed=1,
            objective=RANDOM,
        ),
    ]
    text = compare(runs, tmp_path / "out")
    parts = [
        "# Comparison of 2 runs",
        "## Alarms",
        "/a: adversarial, step 60: odd",
        "/b': none fired",
        "## What is compared",
        "## Results",
        f"- {tmp_path / 'a'}: a note".replace("_", "\\_"),
        "only here",
        "## Sweeps",
        "frontier-1.png",
        "## Curves",
        "curves.png",
        "## Samples",
        "from the seed of each run, so rows don't correspond",
        "| prompt     | base: adversarial, best |",
        "| a question | text after ",
        "## Configuration",
        "```yaml\nname: a\n",
        "Keys that differ in the others:",
        "objective.reward: sigmoid -&gt; random",
        "## Reproduce",
    ]
    assert "Seed 1" not in text, "± is over runs here"
    positions = [text.index(part) for part in parts]
    assert positions == sorted(positions)
    commands = [shlex.split(line) for line in text[text.index("```sh\n") + 6 :].splitlines()[:-1]]
    a, b = (str(run.folder) for run in runs)
    assert commands == [
        ["python", "train.py", f"{a}/config.yaml", "--name", "a-again"],
        ["gptgan", "evaluate", a, "--sweep"],
        ["python", "train.py", f"{b}/config.yaml", "--name", "b'-again"],
        ["gptgan", "evaluate", b, "--sweep"],
        ["gptgan", "report", a, b, "--out", str(tmp_path / "out")],
    ]


def test_half_finished_runs_and_hostile_texts_are_compared_too(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> | `b` ![x](y)\n"
    nothing = Evaluation(columns=[], scores=[], shown={}, prompts=[], notes=[])
    values = {evil: Estimate(math.inf), REAL: Estimate(None)}
    hostile = evaluation(scores=[Score(evil, evil, evil, "lower", values)], shown={evil: [evil]}, notes=[evil])
    runs = [
        make_run(tmp_path, "a", nothing, last=0),
        make_run(tmp_path, "b", hostile, last=3, seed=1, objective=RANDOM, alarm=evil),
    ]
    text = compare(runs, tmp_path / "out")
    assert "<" not in text
    assert "![x]" not in text
    assert not re.search(r"(?<!`)`(?!`)", text)
    assert "∞ (1 run)" in text
    assert "nan" not in text
    alone = compare(runs[:1], tmp_path / "alone")
    assert alone.startswith("# Comparison of 1 run\n")
    for absent in ("## Results", "## Sweeps", "## Curves", "## Samples", "instead"):
        assert absent not in alone
    assert "none fired" in alone


def test_a_run_that_was_not_evaluated_is_named_and_hides_nothing_of_the_others(tmp_path: Path) -> None:
    waiting = make_run(tmp_path, "waiting", seed=1)
    (waiting.folder / "evaluation.json").unlink()
    waiting = load_reported_run(RunFolder(waiting.folder))
    done = make_run(tmp_path, "done", evaluation(prompts=["asked"]), seed=2)
    control = make_run(tmp_path, "control", evaluation(prompts=["asked"]), seed=2, objective=RANDOM)
    note = f"{waiting.folder}: Not evaluated yet: gptgan evaluate {shlex.quote(str(waiting.folder))} measures it."
    text = compare([waiting, done, control], tmp_path / "out")
    (said,) = (line for line in text.splitlines() if "Not evaluated yet" in line)
    assert said.replace("\\", "") == f"- {note}"
    assert rows_under(text, "### Adversarial, best")[0][2:4] == ["2.600 ± 0.010 (1 run)"] * 2
    assert [row[1] for row in rows_under(text, "## Samples")] == ["asked"]
    assert "text after" in text
    alone = compare([waiting], tmp_path / "alone").replace("\\", "")
    assert f"## Results\n\n- {note.partition(': ')[2]}" in alone


def test_equal_seeds_are_no_independent_repeats(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, name, judged(2.0), last=0, seed=4) for name in ("a", "b")]
    assert "- base: seed 4 was trained 2 times; these are no independent repeats" in compare(runs, tmp_path / "out")


def test_a_comparison_replaces_an_earlier_one_but_no_runs_report(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, name, judged(2.0, sweep=sweep()), seed=i) for i, name in enumerate("ab")]
    compare(runs, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    bare = [dataclasses.replace(run, records=[], evaluation=judged(2.0)) for run in runs]
    assert ".png" not in compare(bare, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.png"))
    with pytest.raises(UserError, match="is a run folder and keeps the report of its run; choose another folder"):
        write_comparison(runs, runs[0].folder)
    with pytest.raises(ValueError, match="at least 1 run"):
        write_comparison([], tmp_path / "out")
