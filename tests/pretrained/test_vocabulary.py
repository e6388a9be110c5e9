"""A generator that goes on in another vocabulary: which row each token takes, and what that leaves as it was."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from helpers import GENERATORS, batch_of, random_params
from hf_folders import WORDS, write_model
from tiny import tiny_experiment, train_tiny
from tokenizers import decoders, models, pre_tokenizers

from gptgan_jax import Vocabulary, build_generator
from gptgan_jax.data.tokenizers import IdTokenizer, Tokenizer, read_tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.objectives.optimizers import parameter_paths
from gptgan_jax.pretrained.vocabulary import rows_by_token, token_axis, with_rows
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.start import by_token
from gptgan_jax.training.loop import train

OLD = ["<pad>", "<bos>", "<eos>", "<unk>", "cats", "dogs", "run", "sleep"]
NEW = ["sing", "run", "[UNK]", "cats", "[PAD]", "mice", "[SEP]", "[CLS]", "dogs"]


def tokenizer_of(folder: Path, names: list[str], unknown: str) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=unknown))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([name for name in names if name[0] in "<["])
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    return read_tokenizer(folder / "tokenizer.json")


@pytest.fixture
def both(tmp_path: Path) -> tuple[Tokenizer, Tokenizer]:
    return tokenizer_of(tmp_path / "old", OLD, "<unk>"), tokenizer_of(tmp_path / "new", NEW, "[UNK]")


def test_each_token_takes_the_row_of_its_text_or_of_its_role(both: tuple[Tokenizer, Tokenizer]) -> None:
    """By hand: sing and mice are new; [UNK], [PAD], [SEP] and [CLS] are the old 3, 0, 2 and 1."""
    rows = rows_by_token(*both)
    assert rows.old.tolist() == [-1, 6, 3, 4, 0, -1, 2, 1, 5]
    assert rows.new == 2
    assert rows.averaged.tolist() == [True] * 8


@pytest.mark.parametrize("old_kind", ["bytes", "pieces", "words"])
@pytest.mark.parametrize("new_kind", ["bytes", "pieces", "words"])
def test_tokens_of_two_kinds_are_one_where_they_stand_for_one_text(
    old_kind: str, new_kind: str, tmp_path: Path
) -> None:
    """Every token of the new kind takes the row of the old one that reads alike, its space included."""
    texts = [" cat", "cat", " \N{EURO SIGN}", ",", "a"]
    old, new = (spelt(tmp_path / name, kind, texts) for name, kind in (("old", old_kind), ("new", new_kind)))
    rows = rows_by_token(old, new).old
    known = dict(spellings(old_kind, texts))
    for text, token in spellings(new_kind, texts):
        i = new.backend.token_to_id(token)
        same = known.get(text) or (known.get(text.strip()) if new_kind == "words" else None)
        assert rows[i] == (-1 if same is None else old.backend.token_to_id(same)), (text, token)


def spellings(kind: str, texts: list[str]) -> list[tuple[str, str]]:
    """(the text, the token of that kind that stands for it)."""
    if kind == "words":
        return [(text, text[1:]) for text in texts if text[0] == " "]
    if kind == "pieces":
        return [(text, text.replace(" ", "▁")) for text in texts]
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return [(text, level.pre_tokenize_str(text)[0][0]) for text in texts]


def spelt(folder: Path, kind: str, texts: list[str]) -> Tokenizer:
    names = ["</s>", "<unk>", *(token for _, token in spellings(kind, texts))]
    if kind == "pieces":
        names += ["<0x61>"]  # the byte of "a", which has a token of its own
    backend = tokenizers.Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    if kind == "words":
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    elif kind == "pieces":
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    else:
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    backend.add_special_tokens(["</s>", "<unk>"])
    folder.mkdir()
    backend.save(str(folder / "tokenizer.json"))
    return read_tokenizer(folder / "tokenizer.json")


def test_a_role_that_the_old_vocabulary_lacks_is_new_and_one_token_of_all_roles_ends(
    both: tuple[Tokenizer, Tokenizer], tmp_path: Path
) -> None:
    gpt2 = tokenizer_of(tmp_path / "gpt2", ["cats", "<|endoftext|>", "run"], "cats")
    gpt2 = dataclasses.replace(gpt2, special=dataclasses.replace(gpt2.special, unk=None))
    assert rows_by_token(gpt2, both[0]).old.tolist() == [1, 1, 1, -1, 0, -1, 2, -1]
    assert rows_by_token(both[0], gpt2).old.tolist() == [4, 2, 6]


def test_rows_that_no_token_uses_are_neither_averaged_nor_kept(both: tuple[Tokenizer, Tokenizer]) -> None:
    rows = rows_by_token(both[0].padded(11), both[1].padded(10))
    assert rows.averaged.tolist() == [True] * 8 + [False] * 3
    assert rows.old.tolist() == [-1, 6, 3, 4, 0, -1, 2, 1, 5, -1]


def params_of(name: str, size: int) -> Any:
    generator = build_generator(GENERATORS[name], Vocabulary(size))
    return random_params(jax.eval_shape(generator.init, jax.random.key(0), batch_of()))


def flat(params: Any) -> dict[str, np.ndarray]:
    return dict(zip(parameter_paths(params), map(np.asarray, jax.tree.leaves(params)), strict=True))


@pytest.mark.parametrize(
    ("name", "of_tokens"),
    [
        ("gpt2", {"trunk/embedding/table"}),
        ("llama", {"trunk/embedding/table", "head/kernel"}),
        ("lstm", {"network/embedding/table", "network/head/kernel", "network/head/bias"}),
    ],
)
def test_every_array_of_tokens_takes_its_rows_and_nothing_else_changes(
    name: str, of_tokens: set[str], both: tuple[Tokenizer, Tokenizer]
) -> None:
    params = params_of(name, 11)
    rows = rows_by_token(both[0].padded(11), both[1])
    before, after = flat(params), flat(with_rows(params, rows))
    assert {path for path in before if token_axis(path) is not None} == of_tokens
    for path, x in before.items():
        if path not in of_tokens:
            assert after[path].tobytes() == x.tobytes()
            continue
        tokens_first = (lambda array: array) if path.endswith("table") else np.transpose
        ours, theirs = tokens_first(after[path]), tokens_first(x)
        assert len(ours) == 9
        mean = theirs[:8].astype(np.float64).mean(axis=0)
        for token, row in enumerate([None, 6, 3, 4, 0, None, 2, 1, 5]):
            if row is None:
                np.testing.assert_allclose(ours[token], mean, rtol=1e-5, atol=1e-6)
            else:
                assert ours[token].tobytes() == theirs[row].tobytes()


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["gpt2", "llama", "lstm"])
def test_old_tokens_keep_their_odds_and_a_new_one_is_never_likelier_than_their_mean(
    name: str, both: tuple[Tokenizer, Tokenizer]
) -> None:
    """Where they are all kept and new ones come after them (Hewitt 2021)."""
    backend = tokenizers.Tokenizer.from_str(both[0].backend.to_str())
    backend.add_tokens(["sing", "mice", "here"])
    wider = dataclasses.replace(both[0], backend=backend).padded(11)
    rows = rows_by_token(both[0], wider)
    assert rows.old.tolist() == [*range(8), -1, -1, -1]
    params = params_of(name, 8)
    batch = batch_of(vocabulary=Vocabulary(8))
    old = build_generator(GENERATORS[name], Vocabulary(8)).logits(params, batch)
    new = build_generator(GENERATORS[name], Vocabulary(11)).logits(with_rows(params, rows), batch)
    np.testing.assert_allclose(jax.nn.log_softmax(new[..., :8]), jax.nn.log_softmax(old), rtol=1e-4, atol=1e-5)
    bound = jax.nn.logsumexp(old, axis=-1) - jnp.log(8.0)
    assert (new[..., 8:] <= bound[..., None] + 1e-5).all()
    np.testing.assert_allclose(new[..., 8], old.mean(axis=-1), rtol=1e-4, atol=1e-5)


# ---- runs


SHORT = {"continued.steps": 0, "warmup.steps": 0, "adversarial.steps": 0, "evaluation.every": 1000}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tmp_path_factory.mktemp("base"), SHORT)


def on_other_words(folder: Path, source: str, **keys: Any) -> dict[str, Any]:
    text = folder / "other.txt"
    lines = [
        f"{a} {b} {c}" for a in ("cats", "cows", "apes") for b in ("sing", "swim") for c in ("here", "there", "up")
    ]
    text.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return SHORT | {"data.train": str(text), "init_from": source, "init_vocabulary": "by_token"} | keys


@pytest.mark.thorough
def test_a_run_has_its_own_tokens_and_the_others_rows(base: Path, tmp_path: Path) -> None:
    keys = on_other_words(tmp_path, str(base), **{"likelihood.optimizer.learning_rate": 1e-30})
    experiment, folder = tiny_experiment(tmp_path, keys)
    same, _ = tiny_experiment(tmp_path, keys | {"init_vocabulary": "same"})
    assert experiment.start is not None
    assert same.start is not None
    new, old = experiment.tokenizer, same.tokenizer
    assert isinstance(new, Tokenizer)
    assert new.unknown_words("apes swim up") == []
    assert old.unknown_words("apes swim up") == ["apes", "swim", "up"]
    table, theirs = (flat(start.params())["trunk/embedding/table"] for start in (experiment.start, same.start))
    assert len(table) == new.vocabulary.size
    for word in ("cats", "cows", "sing", "here", "there"):
        assert table[new.encode(word)[0]].tobytes() == theirs[old.encode(word)[0]].tobytes()
    for word in ("apes", "swim", "up"):
        np.testing.assert_allclose(table[new.encode(word)[0]], theirs.mean(axis=0), rtol=1e-5, atol=1e-7)
    known, size = 4 + 5, new.vocabulary.size
    assert any(f"and of this run's {size} tokens {known} it knows; the others" in note for note in experiment.notes)
    train(experiment, folder, lambda line: None)
    train(load_experiment(experiment.config, folder.read_tokenizer()), folder, lambda line: None)  # needs it no more


def test_where_both_have_the_same_tokens_nothing_changes(base: Path, tmp_path: Path) -> None:
    keys = SHORT | {"data.train": str(base.parents[1] / "corpus.txt"), "init_from": str(base)}
    same, _ = tiny_experiment(tmp_path, keys)
    mapped, _ = tiny_experiment(tmp_path, keys | {"init_vocabulary": "by_token"})
    assert same.start is not None
    assert mapped.start is not None
    assert mapped.tokenizer.vocabulary == same.tokenizer.vocabulary
    for one, other in zip(jax.tree.leaves(same.start.params()), jax.tree.leaves(mapped.start.params()), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_a_model_goes_on_in_the_runs_vocabulary(tmp_path: Path) -> None:
    """Its table has two rows more than its 18 tokens, which the mean leaves out."""
    _, params = write_model(tmp_path / "model")
    own = dict.fromkeys(f"generator.{name}" for name in ("layers", "width", "heads", "max_positions"))
    experiment, _ = tiny_experiment(tmp_path, own | on_other_words(tmp_path, f"hf:{tmp_path / 'model'}"))
    assert experiment.start is not None
    table, theirs = (flat(tree)["trunk/embedding/table"] for tree in (experiment.start.params(), params))
    tokenizer = experiment.tokenizer
    assert table[tokenizer.encode("cats")[0]].tobytes() == theirs[4 + WORDS.index("cats")].tobytes()
    assert table[tokenizer.vocabulary.eos_id].tobytes() == theirs[2].tobytes()  # type: ignore[index]
    np.testing.assert_allclose(table[tokenizer.encode("apes")[0]], theirs[:18].mean(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "keys", "says"),
    [
        ("strange tongue", {}, "has none of this run's tokens; set tokenizer as it has it"),
        ("cats swim", {"generator.lora.rank": 1}, r"1 tokens are new, .* set generator.lora.trained to \['trunk/emb"),
        ("cats run", {"generator.lora.rank": 1}, ""),
        ("cats swim", {"generator.lora.rank": 1, "generator.lora.trained": ["*/table"]}, ""),
    ],
)
def test_what_leaves_tokens_without_meaning_is_refused(
    words: str, keys: dict[str, Any], says: str, base: Path, tmp_path: Path
) -> None:
    text = tmp_path / "few.txt"
    text.write_text(f"{words}\n" * 20, encoding="utf-8")
    keys = on_other_words(tmp_path, str(base), **keys) | dict.fromkeys(
        ("data.train", "data.valid", "data.test"), str(text)
    )
    if not says:
        tiny_experiment(tmp_path, keys)
        return
    with pytest.raises(UserError, match=says) as refused:
        tiny_experiment(tmp_path, keys)
    assert "\n" not in str(refused.value)


def test_token_ids_are_no_tokens_of_a_text(base: Path, tmp_path: Path) -> None:
    experiment, _ = tiny_experiment(tmp_path, on_other_words(tmp_path, str(base)))
    assert experiment.start is not None
    with pytest.raises(UserError, match="token ids are no tokens of a text; set it to same"):
        by_token(experiment.config, experiment.start, IdTokenizer(Vocabulary(9)))
