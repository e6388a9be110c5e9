"""From the arrays of a step to the lists of a function, and back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import batch_of

from gptgan_jax import Sample
from gptgan_jax.errors import UserError
from gptgan_jax.text_rewards.calling import Call
from gptgan_jax.text_rewards.host import HostReward, Lookup

BATCH = batch_of()
MASK = jnp.arange(4) < jnp.array([[2], [4], [1]])
WRITTEN = Sample(jnp.arange(12, dtype=jnp.int32).reshape(3, 4), MASK, jnp.zeros((3, 4)))


def spelt(ids: list[int]) -> str:
    return " ".join(map(str, ids))


def seen_by(lookup: Lookup | None, rows: list[int] | None) -> dict[str, Any]:
    """What a function is given for the texts above."""
    seen: dict[str, Any] = {}

    def function(texts: Any, prompts: Any, references: Any, columns: Any, tokens: Any) -> list[float]:
        seen.update(texts=texts, prompts=prompts, references=references, columns=columns, tokens=tokens)
        return [0.5, 1.5, -2.0]

    batch = BATCH.replace(rows=None if rows is None else jnp.array(rows, jnp.int32))
    found = jax.jit(HostReward(Call("mine", function), spelt, lookup))(WRITTEN, batch)
    np.testing.assert_array_equal(found, np.float32([0.5, 1.5, -2.0]))
    return seen


def counted(ids: Any, mask: Any) -> list[list[int]]:
    return [[int(i) for i, there in zip(*row, strict=True) if there] for row in zip(ids, mask, strict=True)]


def test_a_function_is_given_what_the_masks_cover_as_lists() -> None:
    seen = seen_by(None, None)
    assert seen["tokens"] == [[0, 1], [4, 5, 6, 7], [8]]
    assert seen["texts"] == ["0 1", "4 5 6 7", "8"]
    assert seen["prompts"] == list(map(spelt, counted(BATCH.prompt, BATCH.prompt_mask)))
    assert seen["references"] == list(map(spelt, counted(BATCH.target, BATCH.target_mask)))
    assert seen["columns"] == {}


def test_what_is_looked_up_by_rows_stands_in_place_of_what_is_decoded() -> None:
    columns = {"n": [10, 20, 30, 40]}
    seen = seen_by(Lookup(columns, ["a", "b", "c", "d"], ["x", "y", "z", "w"]), [3, 0, 3])
    assert seen["columns"] == {"n": [40, 10, 40]}
    assert (seen["prompts"], seen["references"]) == (["d", "a", "d"], ["w", "x", "w"])
    half = seen_by(Lookup(columns), [1, 1, 0])
    assert half["prompts"] == seen_by(None, None)["prompts"]
    with pytest.raises(ValueError, match="looks up columns, and the batch has no `rows`"):
        seen_by(Lookup(columns), None)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["cpu", "accelerator"])
def test_a_number_a_token_is_laid_out_as_the_tokens_are(elsewhere: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by the other way, that programs for accelerators take."""
    if elsewhere:
        monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arguments, cpu, default: default(*arguments))

    def tenths(texts: list[str], tokens: list[list[int]]) -> list[list[float]]:
        return [[token / 10 for token in ids] for ids in tokens]

    found = jax.jit(HostReward(Call("mine", tenths, per_token=True), spelt))(WRITTEN, BATCH)
    np.testing.assert_allclose(found, np.where(MASK, WRITTEN.tokens / 10, 0), rtol=1e-6)


def test_a_failure_is_kept_for_who_looks_and_the_function_is_not_called_again() -> None:
    calls: list[int] = []

    def failing(texts: list[str]) -> list[float]:
        calls.append(len(texts))
        return [float("nan")] * len(texts)

    reward = HostReward(Call("mine", failing), spelt, raises=False)
    step = jax.jit(reward)
    for _ in range(2):
        assert np.isnan(step(WRITTEN, BATCH)).all()
    assert isinstance(reward.error, UserError)
    assert "reward mine gave nan for the text '0 1'" in str(reward.error)
    assert calls == [3]
