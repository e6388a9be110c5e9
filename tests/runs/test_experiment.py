"""An experiment: all that a config names, loaded, with nothing written and nothing fitted on held-out text."""

import dataclasses
import json
from pathlib import Path

import jax
import pytest
from tiny import tiny_config, tiny_experiment

from gptgan_jax.data.config import HfData
from gptgan_jax.data.holding_out import ALARM
from gptgan_jax.data.tokenizers import load_tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.trained import Writer, example_batch, generator_shapes, read_prompt

NO_FRACTIONS = {"data.valid_fraction": None, "data.test_fraction": None}


def test_the_splits_are_held_out_and_the_test_text_is_not_the_validation_text(tmp_path: Path) -> None:
    experiment, _ = tiny_experiment(tmp_path)
    texts = [set(split.texts) for split in (experiment.corpus.train, experiment.corpus.valid, experiment.corpus.test)]
    assert [len(experiment.train), len(experiment.valid), len(experiment.test)] == [len(text) for text in texts]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 60


def test_validation_text_stands_in_where_no_test_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text("two cats run\ncats sing\n")
    experiment, _ = tiny_experiment(tmp_path, {"data.valid": str(tmp_path / "valid.txt")})
    assert experiment.test is experiment.valid
    assert len(experiment.valid) == 2
    assert "no data.test: the validation text stands in for it" in experiment.notes


def test_a_word_of_held_out_text_alone_is_unknown_and_counted(tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text("two zebras run\nzebras sing\n")
    experiment, _ = tiny_experiment(tmp_path, {"data.valid": str(tmp_path / "valid.txt")})
    assert experiment.tokenizer.unknown_words("two zebras run") == ["zebras"]
    assert "valid: 2 unknown words" in experiment.notes


def test_what_is_longer_than_the_model_is_split_with_a_count_or_cut_off_with_an_alarm(tmp_path: Path) -> None:
    experiment, _ = tiny_experiment(tmp_path, {"data.max_length": 3})
    lengths = [len(text.split()) + 1 for text in experiment.corpus.train.texts]
    longer = sum(length > 3 for length in lengths)
    assert longer > 1
    assert f"train: {longer} documents longer than 3 tokens split into windows" in experiment.notes
    assert len(experiment.train) == sum(-(-length // 3) for length in lengths)
    assert len(experiment.train.targets.tokens) == sum(lengths)
    assert not any(note.startswith(ALARM) for note in experiment.notes)

    cut, _ = tiny_experiment(tmp_path, {"data.max_length": 3, "data.long_documents": "cut"})
    lost = sum(max(length - 3, 0) for length in lengths) / sum(lengths)
    assert f"train: {longer} documents cut off at 3 tokens, {lost:.1%} of all tokens lost" in cut.notes
    alarm = next(note for note in cut.notes if note.startswith(f"{ALARM}train"))
    assert f"{lost:.0%} of its tokens are cut off and lost at data.max_length 3; raise that" in alarm
    assert alarm.endswith("or set data.long_documents to split")


def test_the_tokenizer_of_an_earlier_run_is_kept(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    first = load_experiment(config)
    first.tokenizer.save(tmp_path / "tokenizer")
    kept = load_tokenizer(tmp_path / "tokenizer")
    (tmp_path / "corpus.txt").write_text("zebras fly\nzebras sleep\n" * 40)
    with pytest.raises(UserError):
        load_experiment(config)  # two documents leave too little to hold out
    (tmp_path / "corpus.txt").write_text("".join(f"zebras fly {n}\n" for n in range(40)))
    assert load_experiment(config, kept).tokenizer is kept


def test_another_vocabulary_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    assert tiny_experiment(tmp_path, {"vocab_size": 18})[0].generator.vocabulary.size == 18
    with pytest.raises(UserError, match="vocab_size 19: the tokenizer has 18 tokens; drop the key"):
        tiny_experiment(tmp_path, {"vocab_size": 19})


def test_unconditional_text_has_no_prompts_and_a_batch_of_one_column(tmp_path: Path) -> None:
    experiment, _ = tiny_experiment(tmp_path)
    assert not experiment.conditional
    assert experiment.valid.first_prompts(3) is None
    assert experiment.example_batch().prompt.shape == (1, 1)
    assert experiment.example_batch().target.shape == (1, 6)


def test_conditional_text_shows_the_first_validation_prompts(tmp_path: Path) -> None:
    rows = [{"q": f"say {n}", "text": f"it is {n}"} for n in range(40)]
    (tmp_path / "rows.json").write_text("\n".join(map(json.dumps, rows)))
    keys = {"data.kind": "hf", "data.train": str(tmp_path / "rows.json"), "data.prompt_column": "q"}
    experiment, _ = tiny_experiment(tmp_path, keys)
    assert experiment.conditional
    shown = [experiment.tokenizer.decode(prompt) for prompt in experiment.valid.first_prompts(2)]
    assert [text.split()[0] for text in shown] == ["say", "say"]
    assert len(experiment.valid.first_prompts(1000)) == len(experiment.valid)
    assert experiment.example_batch().prompt.shape == (1, 4)


@pytest.mark.parametrize(("keep", "left"), [("end", "cats run here"), ("start", "two cats run")])
def test_a_run_keeps_the_part_of_a_long_prompt_that_it_is_told_to(keep: str, left: str, tmp_path: Path) -> None:
    rows = [{"q": "two cats run here", "text": f"ho {i}"} for i in range(60)]
    (tmp_path / "rows.json").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    keys = {"data.kind": "hf", "data.train": str(tmp_path / "rows.json"), "data.prompt_column": "q"}
    experiment = tiny_experiment(tmp_path, keys | {"data.prompt_keep": keep})[0]
    for split in (experiment.train, experiment.valid, experiment.test):
        assert [experiment.tokenizer.decode(prompt) for prompt in split.first_prompts(1)] == [left]


def test_the_generators_shapes_are_those_of_its_parameters_conditional_or_not(tmp_path: Path) -> None:
    experiment, _ = tiny_experiment(tmp_path)
    shapes = generator_shapes(experiment.config, experiment.generator)
    batch = example_batch(experiment.config, experiment.generator.vocabulary, True)
    params = jax.jit(experiment.generator.init)(jax.random.key(0), batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), shapes) == jax.tree.map(lambda x: (x.shape, x.dtype), params)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    experiment = tiny_experiment(tmp_path_factory.mktemp("prompts"))[0]
    return Writer(experiment.config, experiment.tokenizer, experiment.generator, experiment.discriminator)


def test_a_prompt_becomes_its_ids_and_takes_its_length_from_the_text(writer: Writer) -> None:
    prompt, length = read_prompt(writer, "two cats")
    assert writer.tokenizer.decode(prompt.ids) == "two cats"
    assert length == writer.config.data.max_length - 2


def test_unknown_words_of_a_prompt_are_named_once_each(writer: Writer) -> None:
    with pytest.raises(UserError, match="doesn't know 'yaks', 'fly'; use words of the training text"):
        read_prompt(writer, "yaks fly yaks")


def test_a_prompt_leaves_room_for_at_least_one_token(writer: Writer) -> None:
    longest = writer.config.data.max_length - 1
    assert read_prompt(writer, " ".join(["two"] * longest))[1] == 1
    with pytest.raises(UserError, match=f"{longest + 1} tokens; this run takes at most {longest}"):
        read_prompt(writer, " ".join(["two"] * (longest + 1)))


def test_a_run_that_answers_prompts_wants_one_and_an_encoder_without_prompts_refuses_one(writer: Writer) -> None:
    answers = dataclasses.replace(
        writer,
        config=dataclasses.replace(
            writer.config, data=HfData(prompt_column="question", max_length=6, max_prompt_length=3)
        ),
    )
    with pytest.raises(UserError, match="give one with --prompt"):
        read_prompt(answers, "")
    network = dataclasses.replace(writer.config.generator, encoder_layers=1)
    encoder = dataclasses.replace(writer, config=dataclasses.replace(writer.config, generator=network))
    with pytest.raises(UserError, match="drop --prompt"):
        read_prompt(encoder, "two cats")
