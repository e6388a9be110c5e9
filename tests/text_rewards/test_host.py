"""From the arrays of a step to the lists of a function, and back."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chat_folders import CHATML, write_folder
from helpers import batch_of

from gptgan_jax import Sample
from gptgan_jax.data.batches import gather
from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.encoding import TokenisedSplit, encode_split
from gptgan_jax.data.tokenizers import BpeTokenizer, CharacterTokenizer, Tokenizer, fit_tokenizer, read_tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.mixtures.rows import MixedRows, TextRows
from gptgan_jax.mixtures.splits import joined, parts_of
from gptgan_jax.text_rewards.calling import Call
from gptgan_jax.text_rewards.config import HostRewards, RewardConfig
from gptgan_jax.text_rewards.host import HostReward, Lookup, host_reward
from gptgan_jax.tokenization.chat_templates import Message, Prompt

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


# ---- of real tokenizers and of the data


SYSTEM = Message("system", "be kind")


def split_of(tokenizer: Tokenizer, name: str) -> TokenisedSplit:
    """Four documents, whose prompt, text and right answer have the same number."""
    prompts: list[Prompt] = [(SYSTEM, Message("user", f"{name} {i}")) for i in range(4)]
    texts, answers = [f"{name} {i} text" for i in range(4)], [f"{name} {i} answer" for i in range(4)]
    return encode_split(Split(texts, prompts, answers=answers), tokenizer, 40, 80)


@pytest.mark.parametrize("template", [CHATML, None])
def test_prompts_of_a_mixture_are_those_of_the_rows(template: str | None, tmp_path: Path) -> None:
    """With a template whose turns end as texts do, and where texts begin as they end."""
    folder = write_folder(tmp_path, template=template, eos_token="<|im_end|>", bos_token="<|im_end|>")
    tokenizer = read_tokenizer(folder / "tokenizer.json").for_prompts()
    train = joined([split_of(tokenizer, name) for name in ("a", "b")], ["a", "b"], [0.5, 0.5])
    seen: dict[str, Any] = {}

    def told(texts: Any, prompts: Any, references: Any) -> list[float]:
        seen.update(prompts=prompts, references=references)
        return [0.0] * len(texts)

    config = RewardConfig(function="text_rewards.reward_examples:words", name="told")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RewardConfig, "_function", lambda self: told)
        rewards = HostRewards([config], tokenizer, train)
    batch = MixedRows([TextRows(part) for part in parts_of(rewards.train)], [0.5, 0.5]).batch_at(0, 1, 16)
    written = Sample(batch.target, batch.target_mask, jnp.zeros(batch.target.shape))
    jax.jit(rewards.functions["told"])(written, batch)
    texts = [tokenizer.decode(row[there]) for row, there in zip(batch.target, batch.target_mask, strict=True)]
    assert len(set(texts)) == 8
    before = "be kind" if template is None else ""
    assert [prompt.removeprefix(before).strip() for prompt in seen["prompts"]] == [text[:3] for text in texts]
    assert seen["references"] == [f"{text[:3]} answer" for text in texts]


def test_a_prompt_is_decoded_past_what_ends_a_text(tmp_path: Path) -> None:
    """Without a lookup, as in the functional API."""
    folder = write_folder(tmp_path, eos_token="<|im_end|>", bos_token="<|im_end|>")
    tokenizer = read_tokenizer(folder / "tokenizer.json").for_prompts()
    batch = gather(split_of(tokenizer, "a"), np.arange(2))
    seen: list[str] = []

    def told(texts: Any, prompts: list[str]) -> list[float]:
        seen.extend(prompts)
        return [0.0] * len(texts)

    written = Sample(batch.target, batch.target_mask, jnp.zeros(batch.target.shape))
    jax.jit(host_reward(told, tokenizer.decode))(written, batch)
    assert seen == [f"system\nbe kind\nuser\na {i}\nassistant\n" for i in range(2)]
    seen.clear()
    jax.jit(host_reward(told, tokenizer.decode, decode_prompt=lambda ids: "mine"))(written, batch)
    assert seen == ["mine", "mine"]


def test_windows_of_a_text_without_prompts_have_none() -> None:
    tokenizer = fit_tokenizer(CharacterTokenizer(), Corpus(Split(["abcdef"]), Split(["a"]), None))
    train = encode_split(Split(["abcdef"]), tokenizer, 2, long_documents="split")
    config = RewardConfig(function="text_rewards.reward_examples:prompted")
    rewards = HostRewards([config], tokenizer, train)
    batch = gather(rewards.train, np.arange(3))
    written = Sample(batch.target, batch.target_mask, jnp.zeros(batch.target.shape))
    assert jax.jit(rewards.functions["prompted"])(written, batch).tolist() == [0.0] * 3


@pytest.mark.parametrize(
    ("text", "asked", "unit"),
    [("床前明月光", {}, "character"), ("a b c", {}, "word"), ("床前", {"unit": "word"}, "word")],
)
def test_the_unit_of_bleu_is_that_of_the_training_text(text: str, asked: dict[str, str], unit: str) -> None:
    tokenizer = fit_tokenizer(BpeTokenizer(vocab_size=300), Corpus(Split([text] * 9), Split([text]), None))
    train = encode_split(Split([text] * 9), tokenizer, 40)
    rewards = HostRewards([RewardConfig(function="bleu", options={"n": 1, **asked})], tokenizer, train)
    assert rewards.functions["bleu"].call.options == {"n": 1, "unit": unit}
