"""Configurations: from YAML and overrides to one frozen value and back, and every mistake with the key it is in."""

import dataclasses
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import leaves

from gptgan_jax.config import Config
from gptgan_jax.config.checking import config_from
from gptgan_jax.config.estimators import CustomConfig, EstimatorConfig
from gptgan_jax.config.files import load_config, to_yaml, with_absolute_paths
from gptgan_jax.config.help import describe_keys
from gptgan_jax.config.structure import difference
from gptgan_jax.data.config import GrammarData, HfData, HfSource, MixtureData, OracleData, TextData, TextSource
from gptgan_jax.data.tokenizers import BpeTokenizer, CharacterTokenizer, FileTokenizer, IdsTokenizer, WordTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.models.discriminator_networks import CnnConfig, LinearConfig, MlpConfig, TransformerDiscriminatorConfig
from gptgan_jax.models.leakgan import LeakganConfig
from gptgan_jax.models.lstm import LstmConfig
from gptgan_jax.models.relational import RelationalConfig
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.pretrained.hub import is_model
from gptgan_jax.readers.documents import read_documents
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.schema.yaml_files import read_yaml
from gptgan_jax.workflows.comparison import load_comparison
from gptgan_jax.workflows.run import train_run

REPOSITORY = Path(__file__).parents[2]
COMPARISONS = sorted(REPOSITORY.glob("configs/compare_*.yaml"))
OWN_CONFIGS = sorted(set(REPOSITORY.glob("configs/*.yaml")) - set(COMPARISONS))
ESTIMATORS = [cls for cls in get_args(get_args(EstimatorConfig)[0]) if cls is not CustomConfig]  # it has no default
VARIANTS = [
    ("data", GrammarData),
    ("data", TextData),
    ("data", HfData),
    ("data", OracleData),
    ("data", MixtureData),
    ("tokenizer", WordTokenizer),
    ("tokenizer", BpeTokenizer),
    ("tokenizer", FileTokenizer),
    ("tokenizer", CharacterTokenizer),
    ("tokenizer", IdsTokenizer),
    ("generator", TransformerConfig),
    ("generator", LstmConfig),
    ("generator", RelationalConfig),
    ("generator", LeakganConfig),
    ("discriminator", LinearConfig),
    ("discriminator", MlpConfig),
    ("discriminator", CnnConfig),
    ("discriminator", TransformerDiscriminatorConfig),
    *(("objective.estimator", estimator) for estimator in ESTIMATORS),
]


def load(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "trial.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


# ---- reading


def test_an_empty_file_is_all_defaults_under_its_own_name(tmp_path: Path) -> None:
    assert load(tmp_path, "# nothing\n") == Config(name="trial")


def test_a_name_in_the_file_or_on_the_command_line_wins_over_the_files(tmp_path: Path) -> None:
    assert load(tmp_path, "name: mine").name == "mine"
    assert load(tmp_path, "name: mine", "--name", "yours").name == "yours"


@pytest.mark.parametrize(
    "overrides",
    [
        ("--evaluation.log_every", "7", "--data.max_length", "9"),
        ("--evaluation.log_every=7", "--data.max_length=9"),
        ("--evaluation.log-every", "7", "--data.max-length=9"),
    ],
)
def test_overrides_may_be_spelt_with_a_space_an_equals_sign_or_dashes(tmp_path: Path, overrides: tuple) -> None:
    config = load(tmp_path, "evaluation: {log_every: 3, every: 5}", *overrides)
    assert (config.evaluation.log_every, config.evaluation.every, config.data.max_length) == (7, 5, 9)


def test_the_last_of_two_overrides_of_a_key_counts(tmp_path: Path) -> None:
    assert load(tmp_path, "", "--seed", "1", "--seed=2").seed == 2


def test_a_value_may_hold_an_equals_sign_and_a_leading_minus(tmp_path: Path) -> None:
    assert load(tmp_path, "", "--name=a=b").name == "a=b"
    with pytest.raises(UserError, match=r"seed: should be greater than or equal to 0, not '-1'"):
        load(tmp_path, "", "--seed", "-1")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (("--likelihood.steps", "30"), 30),
        (("--likelihood.optimizer.learning_rate", "3e-4"), 3e-4),
        (("--likelihood.optimizer.clip_norm", "null"), None),
        (("--objective.dense", "false"), False),
        (("--objective.reward", "logit"), "logit"),
        (("--discriminator.widths", "[2, 4]"), (2, 4)),
        (("--vocab_size", "none"), None),
        (("--likelihood.packing", "none"), "none"),
        (("--objective.reward_scaling", "none"), "none"),
        (("--name", "12"), "12"),
    ],
)
def test_an_override_becomes_the_type_of_its_key(tmp_path: Path, override: tuple, expected: object) -> None:
    value = dict(leaves(load(tmp_path, "", *override)))[override[0][2:]]
    assert value == expected
    assert type(value) is type(expected)


def test_a_glob_may_begin_with_brackets_and_the_folder_that_it_starts_from_may_have_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("p[1]", "p1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(f"text of {folder}\n" * 3)
    monkeypatch.chdir(tmp_path / "p[1]")
    for glob in ("*.txt", "[ab]*.txt", "../p[[]1]/*.txt"):
        data = load(tmp_path, "data: {kind: text}", "--data.train", glob).data
        assert isinstance(data, TextData)
        assert isinstance(data.train, str)
        monkeypatch.chdir(tmp_path)  # an absolute name: from wherever it is read
        assert read_documents("data.train", data.train, "line")[0] == ["text of p[1]"] * 3
        monkeypatch.chdir(tmp_path / "p[1]")
    data = load(tmp_path, "data: {kind: text}", "--data.train", "[a.txt, b.txt]").data
    assert isinstance(data, TextData)
    assert data.train == (str(tmp_path / "p[1]" / "a.txt"), str(tmp_path / "p[1]" / "b.txt"))


def test_a_number_in_scientific_notation_is_a_number_in_a_file_too(tmp_path: Path) -> None:
    assert load(tmp_path, "likelihood: {optimizer: {learning_rate: 3e-4}}").likelihood.optimizer.learning_rate == 3e-4


def test_another_kind_keeps_the_keys_that_both_kinds_have(tmp_path: Path) -> None:
    text = "generator: {kind: transformer, layers: 3, width: 64, dropout: 0.5}"
    config = load(tmp_path, text, "--generator.kind", "lstm")
    assert config.generator == LstmConfig(layers=3, dropout=0.5)
    assert load(tmp_path, text, "--generator.kind", "lstm", "--generator.hidden", "7").generator == LstmConfig(
        layers=3, dropout=0.5, hidden=7
    )


def test_a_section_without_kind_is_of_the_default_kind(tmp_path: Path) -> None:
    assert load(tmp_path, "data: {train_size: 5}").data == GrammarData(train_size=5)
    assert load(tmp_path, "data:").data == GrammarData()


def test_one_key_of_a_section_leaves_the_defaults_of_its_others(tmp_path: Path) -> None:
    """Also where the section's default differs from its type's, as the adversarial learning rate does."""
    changed = load(tmp_path, "", "--adversarial.generator_optimizer.clip_norm", "2")
    assert difference(Config(name="trial"), changed) == ["adversarial.generator_optimizer.clip_norm: 1.0 -> 2.0"]


@pytest.mark.parametrize("text", ["seed: 1\nseed: 2\n", "data: {seed: 1, kind: grammar, seed: 2}"])
def test_a_key_given_twice_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="'seed' is given twice"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("likelihood.optimiser.eps", "likelihood.optimizer"),
        ("adversarial.generator_optimizer.learnrate", "adversarial.generator_optimizer.learning_rate"),
        ("checkpoint.keep", "checkpoints"),
        ("generator.n_layers", "generator.layers"),
        ("run_folder", "runs_folder"),
    ],
)
def test_the_nearest_key_is_suggested(tmp_path: Path, key: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"unknown key .*; did you mean '{nearest}'\\?"):
        load(tmp_path, "", f"--{key}", "1")


def told(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(UserError) as refused:
        config_from(raw, "there")
    return refused.value.lines


def test_every_mistake_is_told_in_a_line_of_its_own() -> None:
    lines = told({"seed": -1, "likelihood": {"steps": -1, "stepz": 3}, "generator": {"kind": "gru"}, "dat": {}})
    assert [line.split(" ")[:2] for line in lines] == [
        ["there:", "unknown"],
        ["there:", "generator.kind"],
        ["there:", "unknown"],
        ["there:", "seed:"],
        ["there:", "likelihood.steps:"],
    ]
    assert "'likelihood.stepz'; did you mean 'likelihood.steps'?" in lines[0]


def test_choices_that_do_not_go_together_are_told_each_and_not_where_a_key_is_wrong() -> None:
    wrong = {"generator": {"max_positions": 9}, "warmup": {"optimizer": {"warmup_steps": 1000}}}
    assert len(told(wrong)) == 2
    assert len(told(wrong | {"sed": 1})) == 1


def test_a_value_of_no_type_of_several_is_one_mistake() -> None:
    assert len(told({"likelihood": {"optimizer": {"clip_norm": "x"}}})) == 1
    assert len(told({"data": {"kind": "text", "train": 3}})) == 1


def test_of_many_mistakes_the_first_are_told_and_the_others_counted() -> None:
    lines = told({f"key{i}": i for i in range(20)})
    assert len(lines) == 9
    assert lines[-1] == "there: and 12 more mistakes"


def test_a_section_built_wrong_in_python_is_refused_in_a_line_a_mistake() -> None:
    with pytest.raises(UserError) as refused:
        TransformerConfig(layers=0, layer=2, width="x")  # type: ignore[call-arg, arg-type]
    assert sorted(line.split(": ")[1] for line in refused.value.lines) == [
        "layers",
        "unknown key 'layer'; did you mean 'layers'?",
        "width",
    ]
    assert all(line.startswith("TransformerConfig: ") for line in refused.value.lines)


# ---- the value


def test_a_config_is_frozen_and_hashable() -> None:
    config = Config(name="x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.likelihood.optimizer.learning_rate = 1.0
    assert hash(config) == hash(Config(name="x"))
    assert len({config, Config(name="x"), Config(name="x", seed=1)}) == 2


def test_a_config_made_in_python_is_checked_like_one_from_a_file() -> None:
    with pytest.raises(ValueError, match="max_positions 9"):
        Config(generator=TransformerConfig(max_positions=9))


# ---- writing


@pytest.mark.parametrize("path", OWN_CONFIGS, ids=lambda path: path.stem)
def test_the_projects_own_configs_survive_being_written_and_read(path: Path, tmp_path: Path) -> None:
    # Whose network is a model's can't be looked up without the model.
    own_network = not is_model(read_yaml(path).get("init_from"))
    config = load_config(path, run_code=own_network)
    (tmp_path / "other.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert load_config(tmp_path / "other.yaml", run_code=own_network) == config


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_the_projects_own_comparisons_can_be_read(path: Path) -> None:
    assert load_comparison(path).arms


# ---- the methods

# Estimator, pair loss, reward, dense, and what else makes the method the paper's; None has no effect.
METHODS: dict[str, tuple] = {
    "seqgan": (
        "rollout", "non_saturating", "sigmoid", False,
        {"objective.estimator.rollouts": 16, "objective.estimator.baseline": "none", "discriminator.kind": "cnn"},
    ),
    "maligan": (
        "maligan", "non_saturating", "logit", False,
        {"objective.estimator.samples": 1, "objective.estimator.baseline": 1.0, "adversarial.batch_size": 64},
    ),
    "rankgan": (
        "rollout", "relativistic", "ranked", False,
        {"objective.estimator.rollouts": 16, "objective.estimator.baseline": "none", "discriminator.kind": "cnn"},
    ),
    "relgan": (
        "gumbel", "relativistic", "log_pair_probability", False,
        {"warmup.steps": 0, "adversarial.discriminator_updates": 5, "discriminator.kind": "cnn",
         "discriminator.representations": 64, "generator.kind": "relational", "generator.head_width": 256},
    ),
    "scratchgan": (
        "reinforce", "non_saturating", "sigmoid", True,
        {"objective.estimator.discount": 0.23, "objective.estimator.baseline": "moving_average", "likelihood.steps": 0,
         "warmup.steps": 0, "adversarial.batch_size": 512, "adversarial.generator_optimizer.beta1": 0.5},
    ),
    "textgail": (
        "ppo", "relativistic", "pair_probability", False,
        {"objective.estimator.ratio": "sequence", "objective.estimator.clip": 0.1, "objective.demonstration_share": 0.3,
         "objective.demonstration_reward": 2.0},
    ),
    "gad": (
        "grpo", "relativistic", "logit", False,
        {"objective.estimator.samples": 8, "objective.temperature": 0.8, "objective.kl_weight": 0.001,
         "objective.kl_estimator": "low_variance", "discriminator.from_generator": True},
    ),
    "recommended": (
        "reinforce", "non_saturating", "logit", False,
        {"objective.estimator.discount": 1.0, "objective.estimator.baseline": "leave_one_out",
         "objective.kl_weight": 1.0, "objective.kl_estimator": "reward", "objective.next_token_weight": 1.0,
         "objective.residual_candidates": 8},
    ),
    "cot": ("cot", None, None, None, {"discriminator.kind": "transformer", "likelihood.steps": 0, "warmup.steps": 0}),
    "pg_bleu": ("reinforce", None, None, False, {"objective.discriminator_reward_weight": 0.0}),
    "sentigan": (
        "sentigan", "non_saturating", "penalty", False,
        {"objective.estimator.rollouts": 16, "objective.classification.weight": 1.0, "data.label_prompts": True},
    ),
    "leakgan": (
        "leakgan", "non_saturating", "sigmoid", False,
        {"objective.estimator.rollouts": 4, "objective.estimator.intrinsic_share": 1.0,
         "objective.estimator.rescale": 16.0, "generator.kind": "leakgan", "generator.goal": 16, "generator.horizon": 4,
         "generator.leaked.filters": 144, "generator.leaked.dropout": 0.0, "discriminator.dropout": 0.2},
    ),
    "catgan": (
        "gumbel", "relativistic", "log_pair_probability", False,
        {"adversarial.discriminator_updates": 3, "data.label_prompts": True, "generator.kind": "relational"},
    ),
    "textgan": (
        "gumbel", "non_saturating", "mmd", False,
        {"objective.mmd_bandwidths": (20.0,), "objective.mmd_weight": 1e-3, "objective.estimator.temperature": 1e-3,
         "adversarial.batch_size": 256, "discriminator.kind": "cnn", "generator.hidden": 500},
    ),
    "dpgan": (
        "reinforce", "wasserstein", "formula", True,
        {"objective.reward_formula": "s * mean", "discriminator.surprisal": 12.0,
         "objective.estimator.baseline": "none", "objective.likelihood_weight": 1.0},
    ),
    "self_critic": (
        "self_critic", None, None, None,
        {"objective.estimator.scale": 0.1, "objective.estimator.pair_loss": "relativistic",
         "objective.estimator.refresh_every": None, "adversarial.batch_size": 64, "warmup.steps": 0},
    ),
    "dgsan": ("dgsan", None, None, None, {"likelihood.steps": 0, "warmup.steps": 0}),
    "jsdgan": ("jsdgan", None, None, None, {"objective.estimator.normalised": True, "likelihood.steps": 0}),
    "spin": ("spin", None, None, None, {"objective.estimator.scale": 0.1, "warmup.steps": 0}),
    "ebft": (
        "feature_matching", None, "logit", False,
        {"objective.estimator.samples": 4, "objective.estimator.depths": (0.25, 0.5, 0.75),
         "objective.estimator.whitening": "group", "objective.estimator.diversity": 0.5,
         "objective.estimator.length": 8, "objective.estimator.context": 8, "objective.estimator.stride": 8,
         "objective.temperature": 0.6, "objective.likelihood_weight": 0.03, "warmup.steps": 0},
    ),
    "gkd": (
        "distill", None, None, None,
        {"objective.estimator.beta": 0.5, "objective.estimator.on_policy": 0.5, "objective.temperature": 0.9,
         "warmup.steps": 0},
    ),
    "article_lstm": (
        "reinforce", "non_saturating", "sigmoid", True,
        {"vocab_size": 10000, "generator.kind": "lstm", "generator.layers": 6, "generator.encoder_layers": 6,
         "generator.embedding": 512, "generator.hidden": 256, "discriminator.kind": "linear"},
    ),
    "maskgan": (
        "reinforce", "non_saturating", "sigmoid", True,
        {"data.infilling.share": 0.5, "data.infilling.spans": "contiguous", "generator.kind": "lstm",
         "generator.encoder_layers": 2, "generator.hidden": 650, "objective.estimator.baseline": "learned",
         "objective.estimator.discount": 0.89072, "adversarial.discriminator_updates": 2,
         "adversarial.generator_optimizer.learning_rate": 3.8877e-5},
    ),
    "article_transformer": (
        "reinforce", "non_saturating", "sigmoid", True,
        {"vocab_size": 10000, "generator.kind": "transformer", "generator.layers": 6, "generator.encoder_layers": 6,
         "generator.width": 512, "discriminator.kind": "linear"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_a_preset_is_the_method_that_it_is_named_after(name: str) -> None:
    *axes, further = METHODS[name]
    config = load_config(REPOSITORY / "configs" / f"{name}.yaml")
    objective = config.objective
    found = (objective.estimator.kind, objective.pair_loss, objective.reward, objective.dense)
    assert [(value, right) for value, right in zip(found, axes, strict=True) if right not in (None, value)] == []
    assert {key: value for key, value in leaves(config) if key in further} == further


def test_the_quickstart_plays_the_recommended_game() -> None:
    quickstart, recommended = (
        load_config(REPOSITORY / f"configs/{name}.yaml") for name in ("quickstart", "recommended")
    )
    assert quickstart.objective == recommended.objective


# Where a preset has them, and more of them than these.
TINY_SIZES: dict[str, int] = {
    "vocab_size": 20, "data.vocab_size": 20, "data.hidden": 4, "data.max_length": 4, "data.max_prompt_length": 4,
    "data.train_size": 40, "data.valid_size": 8, "data.test_size": 8,
    "generator.width": 4, "generator.heads": 1, "generator.mlp_width": 4, "generator.layers": 1,
    "generator.embedding": 4, "generator.hidden": 4, "generator.encoder_layers": 1, "generator.max_positions": 16,
    "discriminator.width": 4, "discriminator.heads": 1, "discriminator.layers": 1, "discriminator.max_positions": 16,
    "discriminator.embedding": 4, "discriminator.filters": 2, "discriminator.representations": 2,
    "discriminator.hidden": 2, "generator.head_width": 4,
    "objective.estimator.rollouts": 2, "objective.estimator.samples": 2, "objective.estimator.minibatches": 2,
    "objective.residual_candidates": 0, "likelihood.steps": 0, "warmup.steps": 0,
    "adversarial.steps": 2, "adversarial.batch_size": 4,
    "adversarial.discriminator_updates": 2, "adversarial.generator_optimizer.warmup_steps": 0,
    "adversarial.discriminator_optimizer.warmup_steps": 0, "evaluation.batch_size": 8, "evaluation.shown": 1,
}  # fmt: skip


TINY_STRETCHES = {"samples": 3, "length": 2, "context": 1, "stride": 1}

# Those that `.ci/run` trains; `make exhaustive` trains all.
TRAINED = ("recommended", "relgan", "spin")


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", [name if name in TRAINED else pytest.param(name, marks=pytest.mark.exhaustive) for name in METHODS]
)
def test_a_preset_trains_at_a_tiny_size(name: str, tmp_path: Path) -> None:
    """Its adversarial phase; the others, and the judgement at the end, are the same for all methods."""
    path = REPOSITORY / "configs" / f"{name}.yaml"
    given = dict(leaves(load_config(path)))
    keys: dict[str, Any] = {key: tiny for key, tiny in TINY_SIZES.items() if (given.get(key) or 0) > tiny}
    keys |= {"runs_folder": tmp_path, "continued.steps": 0, "records.tensorboard": False, "evaluation.log_every": 1}
    keys |= {"discriminator.widths": [1, 2]} if "discriminator.widths" in given else {}
    if name == "ebft":
        keys |= {f"objective.estimator.{key}": value for key, value in TINY_STRETCHES.items()}
    if name == "gkd":
        alone = {"likelihood.steps": 2, "likelihood.optimizer.warmup_steps": 0, "adversarial.steps": 0}
        teacher = [f"--{key}={value}" for key, value in (keys | alone | {"name": "teacher"}).items()]
        keys["objective.estimator.teacher"] = train_run(load_config(path, teacher), print).path
    config = load_config(path, [f"--{key}={value}" for key, value in keys.items()])
    differs = {"estimator": config.objective.estimator, "residual_candidates": 0}
    assert config.objective == dataclasses.replace(load_config(path).objective, **differs)
    folder = train_run(config, print)
    steps = [line["step"] for line in read_metrics(folder.path) if "gradient_norm" in line]
    assert steps == [1, 2]


# ---- any config

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
NUMBER = st.floats(1e-9, 1e9, allow_nan=False)
COUNT = st.integers(1, 10**9)
DATA = st.one_of(
    st.builds(GrammarData, seed=COUNT, max_length=st.integers(1, 99)),
    st.builds(TextData, train=TEXT | st.none(), valid_fraction=st.floats(0.01, 0.9)),
    st.builds(HfData, path=TEXT, prompt_column=TEXT | st.none(), max_documents=COUNT | st.none()),
    st.builds(OracleData, path=TEXT | st.none(), max_length=st.integers(1, 99)),
    st.builds(
        MixtureData,
        sources=st.tuples(
            st.builds(TextSource, source=st.just("a"), train=TEXT | st.none(), weight=st.floats(0.1, 9)),
            st.builds(HfSource, source=st.just("b"), path=TEXT, streaming=st.booleans(), weight=st.floats(0.1, 9)),
        ),
    ),
)
JUDGE = st.one_of(
    st.builds(LinearConfig, embedding=COUNT),
    st.builds(CnnConfig, widths=st.lists(st.integers(1, 9), min_size=1, unique=True).map(tuple)),
    st.builds(TransformerDiscriminatorConfig, from_generator=st.booleans(), mlp_width=COUNT | st.none()),
)
CONFIGS = st.builds(
    Config,
    name=TEXT.filter(lambda name: name not in (".", "..") and not set(name) & {"/", "\\"}),
    runs_folder=TEXT,
    seed=st.integers(0, 2**31 - 1),
    vocab_size=COUNT | st.none(),
    data=DATA,
    generator=st.one_of(st.builds(LstmConfig, init_stddev=NUMBER | st.none()), st.just(TransformerConfig())),
    discriminator=JUDGE.filter(lambda judge: not getattr(judge, "from_generator", False)),
)


@settings(max_examples=60, deadline=None)
@given(CONFIGS)
def test_any_config_survives_being_written_and_read(tmp_path_factory: pytest.TempPathFactory, config: Config) -> None:
    path = tmp_path_factory.mktemp("written") / "other.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(path) == with_absolute_paths(config)


@settings(max_examples=60, deadline=None)
@given(CONFIGS, CONFIGS)
def test_the_difference_names_exactly_what_differs(one: Config, other: Config) -> None:
    before, after = dict(leaves(one)), dict(leaves(other))
    differing = {key for key in before | after if before.get(key, "absent") != after.get(key, "absent")}
    assert {line.split(": ")[0] for line in difference(one, other)} == differing
    assert difference(one, one) == []


def test_a_difference_shows_both_values() -> None:
    other = Config(name="x", seed=3, discriminator=LinearConfig())
    assert difference(Config(name="x"), other) == [
        "seed: 0 -> 3",
        "discriminator.kind: cnn -> linear",
        "discriminator.representations: 1 -> absent",
        "discriminator.widths: [1, 2, 3, 4, 5] -> absent",
        "discriminator.filters: 64 -> absent",
        "discriminator.highway: False -> absent",
        "discriminator.hidden: 0 -> absent",
        "discriminator.dropout: 0.1 -> absent",
    ]


# ---- help


def help_lines() -> list[tuple[str, str, str, str]]:
    """(key, type, default, meaning) of each line of the help that is about a key."""
    return re.findall(r"^  --(\S+)  (.+?), default (.*?): (.+)$", describe_keys(), re.MULTILINE)


def undescribed(config: Any, path: str = "") -> list[tuple[str, Any]]:
    """The keys, with their values, of which the help has no line with type, default and meaning."""
    lines = {(key, default) for key, kind, default, meaning in help_lines() if kind and meaning}

    def shown(value: Any) -> str:
        value = list(value) if isinstance(value, tuple) else value
        return yaml.safe_dump(value, default_flow_style=True).split("\n")[0]

    return [(key, value) for key, value in leaves(config, path) if (key, shown(value)) not in lines]


@pytest.mark.parametrize(("section", "variant"), VARIANTS, ids=lambda part: getattr(part, "__name__", part))
def test_help_gives_every_key_of_every_kind_with_its_type_default_and_meaning(section: str, variant: type) -> None:
    missing = undescribed(variant(), f"{section}.")
    assert [(k, v) for k, v in missing if not k.endswith(".kind")] == []  # described as headings
    assert f"with --{section}.kind {variant().kind}" in describe_keys()


def test_help_gives_every_key_with_the_default_that_a_run_without_it_has() -> None:
    sections = ("data", "tokenizer", "generator", "discriminator", "objective.estimator")
    kinds = [f"{section}.kind" for section in sections]  # described as headings
    assert [(key, value) for key, value in undescribed(Config()) if key not in kinds] == []


def test_help_has_a_line_for_no_key_that_does_not_exist() -> None:
    known = {key for section, variant in VARIANTS for key, _ in leaves(variant(), f"{section}.")}
    own = {f"objective.estimator.{field.name}" for field in dataclasses.fields(CustomConfig)}
    own |= {f"data.sources.N.{field.name}" for kind in (TextSource, HfSource) for field in dataclasses.fields(kind)}
    assert {key for key, *_ in help_lines()} <= known | own | {key for key, _ in leaves(Config())}


def test_help_says_what_has_no_default() -> None:
    assert re.findall(r"^  --(\S+)  \w+, required: ", describe_keys(), re.MULTILINE) == [
        *2 * ["data.sources.N.weight"],
        "objective.estimator.factory",
    ]


def test_help_says_which_kind_is_the_default() -> None:
    assert re.findall(r"with --(\S+) (\w+) \(the default\)", describe_keys()) == [
        ("data.kind", "grammar"),
        ("tokenizer.kind", "word"),
        ("generator.kind", "transformer"),
        ("discriminator.kind", "cnn"),
        ("objective.estimator.kind", "reinforce"),
    ]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["--likelihood.optimizer.kind", "sgd", "--likelihood.optimizer.weight_decay", "0.1"], "sgd has none"),
        (["--warmup.steps", "4", "--warmup.optimizer.accumulate", "8"], "accumulate 8 is more than its 4 steps"),
        (["--warmup.steps", "4", "--warmup.optimizer.warmup_steps", "4"], "leaves no update at the full learning rate"),
        (
            ["--objective.reward", "constant", "--objective.dense", "false", "--objective.estimator.discount", ".9"],
            "no control",
        ),
    ],
)
def test_settings_that_would_have_no_effect_or_another_than_they_say_are_refused(
    tmp_path: Path, overrides: list[str], says: str
) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text("seed: 1\n")
    with pytest.raises(UserError, match=says):
        load_config(path, overrides)


def test_updates_are_counted_as_the_phase_makes_them(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text("adversarial: {steps: 3, batch_size: 8, generator_optimizer: {warmup_steps: 11}}\n")
    several = ["--objective.estimator.kind", "ppo", "--objective.estimator.epochs", "2"]
    load_config(path, [*several, "--objective.estimator.minibatches", "2"])  # 12 updates
    with pytest.raises(UserError, match="the phase makes 6"):
        load_config(path, several)
    path.write_text("adversarial: {steps: 3, discriminator_updates: 4, discriminator_optimizer: {accumulate: 12}}\n")
    load_config(path)
    with pytest.raises(UserError, match=r"discriminator_optimizer\.accumulate 12 is more than its 9 steps"):
        load_config(path, ["--adversarial.discriminator_updates", "3"])


def test_a_replay_need_not_hold_a_batch_of_the_warm_up_which_has_none(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text("warmup: {batch_size: 64}\nadversarial: {batch_size: 8}\nobjective: {replay_size: 8}\n")
    assert load_config(path).objective.replay_size == 8


def test_a_twin_that_differs_in_what_has_no_shape_is_no_twin(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text("discriminator: {kind: transformer, from_generator: true}\ngenerator: {kv_heads: 4}\n")
    load_config(path)
    with pytest.raises(UserError, match=r"discriminator\.norm_eps is 0\.01, generator\.norm_eps is 1e-05; drop"):
        load_config(path, ["--discriminator.norm_eps", "0.01"])


def test_a_twin_has_the_generators_network_wherever_it_gives_no_key_of_its_own(tmp_path: Path) -> None:
    """But for what each has to itself; a discriminator that starts anew has the defaults."""
    path = tmp_path / "trial.yaml"
    network = {"layers": 2, "width": 24, "heads": 4, "kv_heads": 2, "norm": "rms", "remat": True, "dtype": "bfloat16"}
    own = {"dropout": 0.25, "tied_embeddings": False}
    raw = {"generator": network | own, "discriminator": {"kind": "transformer", "from_generator": True, "heads": 4}}
    path.write_text(yaml.safe_dump(raw))
    twin = load_config(path, ["--generator.width=48"]).discriminator
    defaults = TransformerDiscriminatorConfig(from_generator=True)
    assert twin == dataclasses.replace(defaults, **network | {"width": 48})
    assert load_config(path, ["--discriminator.from_generator=0"]).discriminator == TransformerDiscriminatorConfig()


def test_a_key_given_to_a_section_leaves_the_sections_own_defaults(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text("seed: 1\n")
    optimizer = load_config(path, ["--adversarial.generator_optimizer.clip_norm", "5"]).adversarial.generator_optimizer
    assert (optimizer.learning_rate, optimizer.clip_norm) == (1e-4, 5.0)


def test_the_projects_own_configs_go_by_their_names_wherever_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an installed package has them; a file of one's own of that name comes first."""
    monkeypatch.chdir(tmp_path)
    for name in ("spin", "spin.yaml", "configs/spin.yaml"):
        config = load_config(name)
        assert config.objective.estimator.kind == "spin"
        assert config.name == "spin"
    for name in ("when_it_helps", "studies/when_it_helps.yaml", "configs/studies/when_it_helps.yaml"):
        assert "cells" in read_yaml(Path(name))
    for name in ("elsewhere/spin.yaml", "studies/spin.yaml"):
        with pytest.raises(UserError, match="no such config file"):
            load_config(name)
    Path("spin.yaml").write_text("seed: 7", encoding="utf-8")
    assert load_config("spin.yaml").seed == 7
