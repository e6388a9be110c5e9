"""Whatever a config file or a command line says, it becomes a Config or one line that says why not."""

import contextlib
import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import leaves

from gptgan_jax.config import Config
from gptgan_jax.config import estimators as estimator_configs
from gptgan_jax.config.checking import MOST_TOLD, config_from
from gptgan_jax.config.files import load_config, to_yaml
from gptgan_jax.data.config import HfData, HfSource, MixtureData, OracleData, TextData, TextSource
from gptgan_jax.data.tokenizers import BpeTokenizer, CharacterTokenizer, FileTokenizer, IdsTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.models.discriminator_networks import LinearConfig, MlpConfig, TransformerDiscriminatorConfig
from gptgan_jax.models.generators import LstmConfig
from gptgan_jax.workflows.comparison import load_comparison

MIXTURE = MixtureData(sources=(TextSource(train="a.txt", weight=1), HfSource(path="b", weight=2)))
SECTIONS = (
    Config(),
    *(Config(data=data) for data in (TextData(), HfData(), OracleData(), MIXTURE)),
    *(Config(tokenizer=tokenizer) for tokenizer in (BpeTokenizer(), FileTokenizer(), IdsTokenizer(vocab_size=7))),
    Config(tokenizer=CharacterTokenizer(alphabet="A:#1", symbols="Cl|\\[[^\\]]+\\]")),
    Config(tokenizer=CharacterTokenizer(alphabet=("A", "null", "1"))),
    *(Config(discriminator=judge) for judge in (LinearConfig(), MlpConfig(), TransformerDiscriminatorConfig())),
    Config(generator=LstmConfig()),
)
KEYS = sorted({key for config in SECTIONS for key, _ in leaves(config)} | {"data.sources.0.weight", "data.sources.1"})
ESTIMATORS = sorted(
    {cls.kind for name, cls in vars(estimator_configs).items() if name.endswith("Config") and hasattr(cls, "kind")}
)
KINDS = sorted({str(value) for config in SECTIONS for key, value in leaves(config) if key.endswith("kind")})
WORDS = st.sampled_from(
    [*KINDS, *ESTIMATORS, "hinge", "random", "~", "~nobody/x", "~a\0/b", "a\0b", "\ud800", "x" * 300, "é", ""]
)
TEXT = WORDS | st.text(max_size=8)
NUMBERS = (
    st.integers() | st.integers(-2, 9) | st.floats() | st.sampled_from([10**30, 2**31, 2**63, -1, 0, 1e308, 1e-45])
)
DAYS = st.dates() | st.datetimes(max_value=datetime.datetime(9000, 1, 1))
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT | DAYS | st.binary(max_size=3)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
NAMES = st.sampled_from(KEYS) | st.sampled_from(KEYS).map(lambda key: key.rpartition(".")[0] or key) | TEXT
OF_TYPE: dict[type, st.SearchStrategy] = {
    bool: st.booleans() | st.sampled_from(["true", "no"]),
    int: st.integers(-1, 300) | NUMBERS,
    float: st.floats(0, 1) | NUMBERS,
    str: TEXT,
    tuple: st.lists(st.integers(0, 9) | st.floats(0, 1), max_size=3),
    type(None): TEXT | st.integers(-1, 99),
}


@st.composite
def nearly_right(draw: st.DrawFn) -> dict[str, Any]:
    """One to three keys of sections that go together, with values of the right type, and then perhaps one more key."""
    flat = dict(leaves(draw(st.sampled_from(SECTIONS))))
    kinds = {key: value for key, value in flat.items() if key.endswith("kind")}
    chosen = draw(st.lists(st.sampled_from(sorted(flat.keys() - kinds)), min_size=1, max_size=3))
    values = {key: draw(OF_TYPE.get(type(flat[key]), TEXT)) for key in chosen}
    return kinds | values | draw(st.just({}) | st.just({}) | st.dictionaries(NAMES, VALUES, max_size=1))


TREES = st.dictionaries(NAMES, VALUES, max_size=3) | nearly_right()


def as_tree(dotted: dict[str, Any]) -> dict[str, Any]:
    """A nested configuration; where a value stands in the way of a section, the value stays."""
    tree: dict[str, Any] = {}
    for key, value in dotted.items():
        *parents, last = key.split(".")
        node = tree
        for name in parents:
            inner = node.setdefault(name, {})
            node = inner if isinstance(inner, dict) else {}
        node[last] = value
    return tree


def read_or_refused(read: Any) -> Config | None:
    """What `read` gives; None where it is refused, a line a mistake. Whatever else it raises is a failure."""
    try:
        return read()
    except UserError as error:
        lines = error.lines
    assert 1 <= len(lines) <= MOST_TOLD + 1, lines
    assert all(len(line.splitlines()) == 1 and len(line) < 1000 for line in lines), lines
    return None


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any") / "any.yaml"


def check(path: Path) -> None:
    """The file is refused, or read; and what was read is written and read back to the same."""
    config = read_or_refused(lambda: load_config(path))
    if config is not None:
        again = path.with_name("again.yaml")
        again.write_text(to_yaml(config), encoding="utf-8")
        assert load_config(again) == config


@pytest.mark.thorough
@settings(max_examples=400)
@given(TREES)
def test_any_tree_of_keys_and_values(path: Path, dotted: dict[str, Any]) -> None:
    with contextlib.suppress(UnicodeEncodeError):  # a lone surrogate, which no file can hold
        path.write_text(yaml.safe_dump(as_tree(dotted), allow_unicode=True), encoding="utf-8")
    check(path)


@settings(max_examples=150)
@given(TREES)
def test_any_tree_in_python(dotted: dict[str, Any]) -> None:
    """Also what YAML would not give, such as keys that are no words."""
    config = read_or_refused(lambda: config_from(as_tree(dotted)))
    if config is not None:
        assert config_from(yaml.safe_load(to_yaml(config))) == config


@settings(max_examples=200)
@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    check(path)
    read_or_refused(lambda: load_comparison(path))


@settings(max_examples=200)
@given(st.text(alphabet="ab:-{}[],&*!|>'\"#?% \n\t0.~<@`", max_size=30))
def test_any_line_of_yamls_own_signs(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
    check(path)
    read_or_refused(lambda: load_comparison(path))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 5000, "nested too deeply"),
        ("{a: " * 3000, "nested too deeply"),
        ("data: &d {kind: text, train: *d}", "an anchor"),
        ("a: &a [*a, *a]", "an anchor"),
        (
            "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)).replace("*a0", "x"),
            "an anchor",
        ),
    ],
    ids=["brackets", "braces", "a section in itself", "a list in itself", "a billion"],
)
def test_a_file_that_unfolds_without_end(path: Path, text: str, says: str) -> None:
    path.write_text(text)
    for read in (load_config, load_comparison):
        with pytest.raises(UserError, match=says) as error:
            read(path)
        assert len(str(error.value)) < 300


@settings(max_examples=200)
@given(st.lists(st.tuples(NAMES, SCALARS.map(str)), max_size=3))
def test_any_overrides(path: Path, pairs: list[tuple[str, str]]) -> None:
    path.write_text("seed: 1\n")
    overrides = [part for name, value in pairs for part in (f"--{name}", value)]
    config = read_or_refused(lambda: load_config(path, overrides))
    if config is not None:
        assert config_from(yaml.safe_load(to_yaml(config))) == config


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["base", "seeds", "set", "arms"]) | TEXT, VALUES, max_size=4))
def test_any_comparison(path: Path, tree: dict[str, Any]) -> None:
    """With a base that is right, so that it is read further than that."""
    path.with_name("base.yaml").write_text("seed: 1\n")
    with contextlib.suppress(UnicodeEncodeError):
        path.write_text(yaml.safe_dump({"arms": {"a": None}} | tree | {"base": "base.yaml"}), encoding="utf-8")
    read_or_refused(lambda: load_comparison(path))
