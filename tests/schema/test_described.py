"""`help` of a configuration tells what its fields mean, and shows nothing of the library that checks them."""

import dataclasses
import inspect
import pickle
import pydoc
from typing import Any

import pytest

import gptgan_jax as gg
from gptgan_jax.config.structure import fields_of

CONFIGS = [value for value in vars(gg).values() if inspect.isclass(value) and hasattr(value, "__pydantic_fields__")]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_help_has_each_field_with_its_meaning_and_nothing_of_pydantic(config: type) -> None:
    shown = pydoc.render_doc(config, renderer=pydoc.plaintext)
    flat = " ".join(shown.replace("|", " ").split())
    for name, field in fields_of(config).items():
        if field.description:
            assert f"{name}: {field.description}" in flat
    assert "pydantic" not in shown
    assert len(shown.splitlines()) < 80


def test_bounds_stand_behind_the_meaning_and_the_example_comes_last() -> None:
    text: Any = gg.TransformerConfig.__doc__
    assert "dropout rate after embeddings, attention and MLP (at least 0 and below 1)." in text
    assert text.index("Attributes:") < text.index("Example:")


def test_a_described_class_is_the_same_class_in_all_else() -> None:
    config = gg.TransformerConfig(layers=2)
    assert pickle.loads(pickle.dumps(config)) == config
    assert "layers" in inspect.signature(gg.TransformerConfig).parameters
    assert [field.name for field in dataclasses.fields(config)] == list(fields_of(gg.TransformerConfig))
    assert "head_size" in dir(gg.TransformerConfig)
