"""Files of a teacher's most likely tokens: read as they were written, or refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gptgan_jax.errors import UserError
from gptgan_jax.readers.top_k import StoredTopK, Tokens, read_top_k, write_top_k

TARGETS = Tokens(np.array([3, 4, 2, 5, 2], np.int32), np.array([3, 2]))
PROMPTS = Tokens(np.array([6, 6, 7], np.int32), np.array([1, 2]))
TOP_K = StoredTopK(
    np.array([[3, 4], [4, 2], [2, 3], [5, 1], [2, 5]], np.int32), np.log(np.array([[0.5, 0.25]] * 5, np.float32))
)
SIZE = 8


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "top_k.safetensors"
    write_top_k(path, TOP_K, TARGETS, PROMPTS)
    return path


def changed(path: Path, **arrays: Any) -> Path:
    """The file with other arrays; those that are None are left out."""
    found = {name: array for name, array in (load_file(path) | arrays).items() if array is not None}
    save_file(found, path)
    return path


def test_it_is_read_as_it_was_written_and_without_prompts_too(written: Path) -> None:
    for path in (written, changed(written, prompt_tokens=None, prompt_lengths=None)):
        found = read_top_k(path, TARGETS, PROMPTS, SIZE)
        for one, other in zip(found, TOP_K, strict=True):
            np.testing.assert_array_equal(one, other)


def test_other_toolkits_may_write_other_integers_and_half_precision(written: Path) -> None:
    path = changed(written, ids=TOP_K.ids.astype(np.int64), log_probs=TOP_K.log_probs.astype(np.float16))
    found = read_top_k(path, TARGETS, PROMPTS, SIZE)
    assert found.ids.dtype == np.int32
    np.testing.assert_allclose(found.log_probs, TOP_K.log_probs, rtol=1e-3)


@pytest.mark.parametrize(
    ("mine", "prompts", "told"),
    [
        (Tokens(TARGETS.tokens[:3], TARGETS.lengths[:1]), None, "it is of 2 texts, and 1 train; write it again"),
        (
            Tokens(np.array([3, 4, 2, 6, 2]), TARGETS.lengths),
            None,
            "its text 2 has other tokens than the training",
        ),
        (Tokens(TARGETS.tokens, np.array([2, 3])), None, "its text 1 has other tokens"),
        (TARGETS, Tokens(np.array([6, 6, 6]), PROMPTS.lengths), "its prompt 2 has other tokens"),
        (TARGETS, None, "its texts answer prompts, and the training text has none; write it again"),
    ],
)
def test_a_file_of_another_text_is_refused(written: Path, mine: Tokens, prompts: Tokens | None, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_top_k(written, mine, prompts, SIZE)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"ids": None}, "it lacks the arrays ids"),
        ({"ids": TOP_K.ids[:4]}, r"ids \[4, 2\] and log_probs \[5, 2\] should both be \[5, K\], with K from 1 to 8"),
        ({"ids": TOP_K.ids.astype(np.float32)}, "ids should be integers"),
        ({"ids": np.where(TOP_K.ids == 1, 8, TOP_K.ids)}, "row 3 has an id that is not from 0 to 7"),
        ({"ids": np.where(TOP_K.ids == 1, 5, TOP_K.ids)}, "row 3 has an id twice"),
        ({"log_probs": np.full((5, 2), -np.inf, np.float32)}, "row 0 has a log-probability that is no number"),
        ({"log_probs": np.zeros((5, 2), np.float32)}, "row 0 has probabilities of more than 1 together"),
    ],
)
def test_arrays_that_hold_no_such_probabilities_are_refused(written: Path, arrays: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_top_k(changed(written, **arrays), TARGETS, PROMPTS, SIZE)


def test_no_file_and_another_kind_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; gptgan data CONFIG --top-k K --out FILE writes one"):
        read_top_k(tmp_path / "none", TARGETS, None, SIZE)
    (tmp_path / "text").write_text("no arrays")
    with pytest.raises(UserError, match="no safetensors file"):
        read_top_k(tmp_path / "text", TARGETS, None, SIZE)
