"""Whom a run may be distilled from: one that reads the same tokens, however its output layer is padded."""

from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import batch_of
from hf_folders import WORDS, write_model, write_words

from gptgan_jax import Vocabulary
from gptgan_jax.config import Config
from gptgan_jax.config.checking import config_from
from gptgan_jax.data.tokenizers import Tokenizer, read_tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.runs.pretrained import load_teacher

ROWS = 20


def student(teacher: Path, words: list[str] = WORDS) -> tuple[Config, Tokenizer]:
    write_words(teacher.parent / "student", words)
    keys = {
        "name": "x",
        "data": {"max_length": 6, "max_prompt_length": 4},
        "objective": {"estimator": {"kind": "distill", "teacher": f"hf:{teacher}"}},
        "warmup": {"steps": 0},
    }
    return config_from(keys), read_tokenizer(teacher.parent / "student" / "tokenizer.json").padded(ROWS)


def test_rows_that_pad_a_teachers_vocabulary_are_cut(tmp_path: Path) -> None:
    own, params = write_model(tmp_path / "teacher", rows=ROWS + 4)
    teacher = load_teacher(*student(tmp_path / "teacher"))
    assert teacher is not None
    assert teacher.generator.vocabulary.size == ROWS
    batch = batch_of(vocabulary=Vocabulary(ROWS))
    found = jax.jit(teacher.generator.logits)(teacher.start.params(), batch)
    np.testing.assert_allclose(found, jax.jit(own.logits)(params, batch)[..., :ROWS], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "words", "says"),
    [
        (ROWS - 1, WORDS, "its output layer has 19 rows, this run's 20"),
        (ROWS, WORDS[::-1], "its tokens are not those of this run"),
    ],
)
def test_a_teacher_that_lacks_tokens_or_reads_others_is_refused(
    rows: int, words: list[str], says: str, tmp_path: Path
) -> None:
    write_model(tmp_path / "teacher", rows=rows)
    with pytest.raises(UserError, match=says):
        load_teacher(*student(tmp_path / "teacher", words))
