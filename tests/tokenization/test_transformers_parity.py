"""What the files of a model say of its special tokens, chat template and texts is what `transformers` makes of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from chat_folders import CHATML, write_folder
from helpers import build
from hf_folders import QWEN3, write_model
from tiny import tiny_config
from tokenizers import processors

from gptgan_jax import TransformerConfig
from gptgan_jax.data.config import HfData
from gptgan_jax.data.corpora import load_corpus
from gptgan_jax.data.encoding import encode_split
from gptgan_jax.data.tokenizers import Tokenizer, load_tokenizer, read_tokenizer
from gptgan_jax.export.folders import CHAT_USE, HF_USE
from gptgan_jax.pretrained.huggingface import open_model, save_model
from gptgan_jax.runs.experiment import as_read
from gptgan_jax.tokenization.chat_templates import Message, Prompt, turns_of

transformers = pytest.importorskip("transformers", reason="needs transformers")

NAMES = "tokenizer_config.json"
NAMED = "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ unk_token }}|{{ messages[0].content }}"


def names_folder(folder: Path, names: dict[str, Any], **files: Any) -> Path:
    """A byte-level tokenizer whose tokenizer_config.json has just these names, and other files."""
    write_folder(folder)
    for name, content in {NAMES: names, **files}.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def begun(tokenizer: Any, prompt: Prompt) -> list[int]:
    """A prompt as a generator reads it."""
    return tokenizer.vocabulary.begun(tokenizer.encode_prompts([prompt])[0])


def theirs_of(folder: Path, prompt: Prompt) -> list[int]:
    """The same by `transformers`."""
    messages = [one._asdict() for one in turns_of(prompt)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def saved(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    """A tokenizer that a run's folder kept."""
    tokenizer.save(folder)
    kept = load_tokenizer(folder)
    assert isinstance(kept, Tokenizer)
    return kept


MARKED = CHATML.replace(
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}",
    "{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}",
)


def test_the_turns_that_are_learned_are_those_of_a_mask_over_the_whole_conversation(tmp_path: Path) -> None:
    """What TRL masks in one sequence is learned here in as many: with the same tokens before each, and the same end."""
    folder = names_folder(tmp_path / "m", {"eos_token": "<|im_end|>", "chat_template": MARKED})
    said = ["be kind", "hello you", "how are", "system user", "world", "INST hello world"]
    roles = ["system", "user", "assistant", "user", "assistant", "user", "assistant"]
    messages = [{"role": role, "content": text} for role, text in zip(roles, [*said, "you"], strict=True)]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8")
    data = HfData(train=str(rows), valid=str(rows), text_column="messages", assistant_turns="all")
    tokenizer = read_tokenizer(folder / "tokenizer.json").for_prompts()
    encoded = encode_split(load_corpus(data).train, tokenizer, 60, 200)
    theirs = transformers.AutoTokenizer.from_pretrained(folder).apply_chat_template(
        messages, return_assistant_tokens_mask=True, return_dict=True
    )
    ids, mask = theirs["input_ids"], theirs["assistant_masks"]
    begins = [i for i in range(len(ids)) if mask[i] and not mask[i - 1]]
    assert len(encoded.targets) == len(begins) == 3
    learned = 0
    for i, begin in enumerate(begins):
        prompt, answer = (list(one[i]) for one in (encoded.prompts, encoded.targets))
        assert tokenizer.vocabulary.begun(prompt) == ids[:begin]
        assert answer == ids[begin : begin + len(answer)]
        learned += len(answer)
    assert learned == sum(mask)


@pytest.mark.parametrize("names", [{}, {"eos_token": "<|im_end|>"}, {"bos_token": None, "eos_token": "</s>"}])
def test_a_template_is_given_the_names_of_the_files_and_no_others_after_a_run_or_an_export(
    names: dict[str, Any], tmp_path: Path
) -> None:
    folder = names_folder(tmp_path / "m", names | {"chat_template": NAMED})
    given = theirs_of(folder, "hello")
    ours = read_tokenizer(folder / "tokenizer.json").for_prompts()
    again = saved(saved(ours, tmp_path / "run"), tmp_path / "again")
    assert begun(ours, "hello") == begun(again, "hello") == given
    again.save_files(tmp_path / "out")
    assert theirs_of(tmp_path / "out", "hello") == given


def exported(tokenizer: Tokenizer, folder: Path, **options: Any) -> Any:
    """The tokenizer of an exported generator, by `transformers`."""
    folder.mkdir()
    generator, params = build(TransformerConfig(**QWEN3), tokenizer.vocabulary)
    save_model(folder, generator, params, tokenizer, **options)
    return transformers.AutoTokenizer.from_pretrained(folder)


def test_a_run_of_texts_begins_and_ends_them_as_the_files_say_whatever_came_before(tmp_path: Path) -> None:
    folder = names_folder(tmp_path / "m", {"bos_token": "<s>", "eos_token": "</s>", "chat_template": CHATML})
    read = read_tokenizer(folder / "tokenizer.json")
    chat = saved(read.for_prompts(), tmp_path / "chat")
    assert chat.vocabulary.bos_id != read.vocabulary.bos_id
    assert chat.vocabulary.ends != read.vocabulary.ends
    config = tiny_config(tmp_path)
    assert not config.conditional
    texts = as_read(config, chat)
    assert isinstance(texts, Tokenizer)
    assert texts.vocabulary == read.vocabulary
    assert saved(texts, tmp_path / "texts").for_prompts().vocabulary == chat.vocabulary
    theirs = exported(texts, tmp_path / "out")
    assert theirs("hello")["input_ids"] == texts.vocabulary.begun(texts.encode("hello"))
    assert theirs.chat_template == CHATML
    assert exported(chat, tmp_path / "chat out")("hello")["input_ids"] == chat.encode("hello")


@pytest.mark.parametrize("before", [["<s>", "<unk>"], ["<unk>", "<s>"], ["<s>"], []])
def test_all_tokens_before_a_prompt_are_before_it_in_the_export_too(before: list[str], tmp_path: Path) -> None:
    folder = names_folder(tmp_path / "m", {"bos_token": "<s>", "eos_token": "</s>"})
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [(name, backend.token_to_id(name)) for name in before]
    if before:
        backend.post_processor = processors.TemplateProcessing(single=[*before, "$A"], special_tokens=ids)
    backend.save(str(folder / "tokenizer.json"))
    read = read_tokenizer(folder / "tokenizer.json")
    given = transformers.AutoTokenizer.from_pretrained(folder)("hello")["input_ids"]
    assert given[: len(before)] == [i for _, i in ids]
    asked = saved(read.for_prompts(), tmp_path / "run")
    assert begun(asked, "hello") == given
    assert exported(asked, tmp_path / "out", prompts=True)("hello")["input_ids"] == given
    again = read_tokenizer(tmp_path / "out" / "tokenizer.json").for_prompts()
    assert begun(again, "hello") == given
    texts = exported(saved(read.for_texts(), tmp_path / "texts"), tmp_path / "out of texts")
    assert texts("hello")["input_ids"] == [backend.token_to_id("<s>"), *read.encode("hello")]


ANSWERED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}{% if not loop.last %} before{% endif %} {{ m['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)


@pytest.mark.parametrize("kind", ["bytes", "first", "legacy"])
def test_an_answer_has_the_end_of_its_turn_also_where_its_prompt_is_written_otherwise(
    kind: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "m", kind, ANSWERED)
    ours = read_tokenizer(folder / "tokenizer.json").for_prompts()
    end = ours.backend.token_to_id("<|im_end|>")
    prompts = ["hello world", (Message("user", "hello"), Message("assistant", "you"), Message("user", "how"))]
    _, answers = ours.encode_pairs(prompts, ["how are you", "kind"])
    assert [one[-1] for one in answers] == [end, end]
    assert [ours.backend.decode(one[:-1]).strip() for one in answers] == ["how are you", "kind"]


SYSTEM = "{% if messages[0]['role'] == 'system' %}<|im_start|>{{ messages[0]['content'] }}{% else %}<s>{% endif %}"
TURNS = (
    "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% if m['role'] == 'assistant' %}"
    "{{ '</s>' if loop.index == 2 else '<|im_end|>' }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    "template",
    [
        SYSTEM + TURNS,
        "{% if messages|length == 1 %}<s>{% endif %}" + TURNS,
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}<s>" + TURNS,
        "{% if messages[0]['role'] != 'system' %}<|im_start|>{% endif %}<|im_start|>" + TURNS,
    ],
)
def test_every_kind_of_conversation_begins_and_ends_as_its_template_says(template: str, tmp_path: Path) -> None:
    folder = names_folder(tmp_path / "m", {"eos_token": "<|endoftext|>", "chat_template": template})
    ours = read_tokenizer(folder / "tokenizer.json").for_prompts()
    turns = (Message("user", "hello"), Message("assistant", "you"), Message("user", "how"))
    system = Message("system", "be kind")
    allowed = (turns[:1], turns) if "raise" in template else (turns[:1], turns, (system, turns[0]), (system, *turns))
    for prompt in allowed:
        assert begun(ours, prompt) == theirs_of(folder, prompt)
        assert ours.encode_pairs([prompt], ["world"])[1][0][-1] == (2 if len(prompt) < 3 else 4)


FLAGGED = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
END, TURN = "<|endoftext|>", "<|im_end|>"
LISTED = {
    "added_tokens_decoder": {
        "4": FLAGGED | {"content": TURN, "special": False},
        "5": FLAGGED | {"content": END, "special": True},
    }
}


@pytest.mark.parametrize("kept", [True, False], ids=["added", "plain"])
@pytest.mark.parametrize(
    ("names", "files"),
    [
        ({"eos_token": END}, {}),
        ({"eos_token": {"__type": "AddedToken", "content": END, **FLAGGED, "rstrip": True}}, {}),
        ({}, {"special_tokens_map.json": {"eos_token": END}}),
        ({}, {"special_tokens_map.json": {"eos_token": FLAGGED | {"content": END}}}),
        ({"eos_token": "</s>", "pad_token": END, "image_token": TURN}, {}),
        ({"eos_token": "</s>", "additional_special_tokens": [END, TURN]}, {}),
        ({"eos_token": "</s>", "extra_special_tokens": [END]}, {}),
        ({"eos_token": "</s>", "extra_special_tokens": {"stop_token": END}}, {}),
        ({"eos_token": "</s>", **LISTED}, {}),
        ({"eos_token": TURN, **LISTED}, {}),
    ],
)
def test_a_token_that_the_files_name_is_special_however_tokenizer_json_keeps_it(
    names: dict[str, Any], files: dict[str, Any], kept: bool, tmp_path: Path
) -> None:
    folder = names_folder(tmp_path / "m", names | {"chat_template": CHATML + END}, **files)
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    for token in content["added_tokens"]:
        token["special"] = token["content"] not in (END, TURN)
    content["added_tokens"] = [token for token in content["added_tokens"] if kept or token["special"]]
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    ours = read_tokenizer(folder / "tokenizer.json")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    flags = {token.content: repr(token) for token in theirs.added_tokens_decoder.values()}
    assert {token.content: repr(token) for token in ours.backend.get_added_tokens_decoder().values()} == flags
    for one in (ours.for_prompts(), saved(ours.for_prompts(), tmp_path / "run")):
        assert begun(one, "hello") == theirs_of(folder, "hello")
        assert not {i for i, token in theirs.added_tokens_decoder.items() if token.special} & {*one.encode(END + TURN)}


def test_a_run_reads_on_as_it_learned_whatever_its_files_name(tmp_path: Path) -> None:
    ours = read_tokenizer(names_folder(tmp_path / "m", {"eos_token": "</s>"}) / "tokenizer.json")
    ours.save(tmp_path / "run")
    file = tmp_path / "run" / NAMES
    content = json.loads(file.read_text("utf-8")) | {"extra_special_tokens": ["hello"]}
    file.write_text(json.dumps(content), encoding="utf-8")
    kept = load_tokenizer(tmp_path / "run")
    assert kept.encode("hello world") == ours.encode("hello world")


CLASSES = ("LlamaTokenizer", "LlamaTokenizerFast", "GPT2Tokenizer", "Qwen2TokenizerFast", "PreTrainedTokenizerFast")


@pytest.mark.parametrize("kind", ["bytes", "first"])
@pytest.mark.parametrize("family", [None, "llama", "gpt2", "qwen2", "qwen3", "mistral"])
def test_what_no_file_names_is_called_as_in_that_class_of_tokenizer(
    family: str | None, kind: str, tmp_path: Path
) -> None:
    for name in (None, *CLASSES, "NoSuchTokenizer"):
        for more in ({}, {"eos_token": TURN, "bos_token": None}):
            folder = write_folder(tmp_path / f"{name} {len(more)}", kind)
            content = {} if name is None else {"tokenizer_class": name}
            (folder / NAMES).write_text(json.dumps(content | more), encoding="utf-8")
            if family is not None:
                (folder / "config.json").write_text(json.dumps({"model_type": family}), encoding="utf-8")
            ours = read_tokenizer(folder / "tokenizer.json")
            theirs = transformers.AutoTokenizer.from_pretrained(folder)
            assert {key: one for key, one in ours.special.names.items() if one is not None} == theirs.special_tokens_map
            if theirs.eos_token is not None:
                assert ours.vocabulary.eos_id == theirs.eos_token_id


@pytest.mark.parametrize("template", [None, CHATML], ids=["plain", "chat"])
@pytest.mark.parametrize("single", ["$A </s>", "<s> $A </s>"])
def test_an_exported_tokenizer_ends_no_prompt(single: str, template: str | None, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", template=template)
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = processors.TemplateProcessing(
        single=single, pair="$A $B", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    backend.save(str(folder / "tokenizer.json"))
    read = read_tokenizer(folder / "tokenizer.json")
    ids = read.encode("hello")
    asked = exported(read.for_prompts(), tmp_path / "asked")
    assert asked("hello")["input_ids"] == ([1, *ids] if single.startswith("<s>") else ids)
    assert exported(read.for_texts(), tmp_path / "texts")("hello")["input_ids"] == [1, *ids]


THINKING = (
    "\n  {%- if enable_thinking is defined and enable_thinking is false %}<s>{% endif %}"
    "{% for m in messages %}{% if enable_thinking is not defined or enable_thinking %}!{% endif %}{{ m.content }}"
    "{% endfor %}"
)


@pytest.mark.parametrize("thinking", [None, True, False])
def test_an_exported_template_has_the_options_that_the_run_learned(thinking: bool | None, tmp_path: Path) -> None:
    folder = names_folder(tmp_path / "m", {"eos_token": "</s>", "chat_template": THINKING})
    read = read_tokenizer(folder / "tokenizer.json")
    options = {} if thinking is None else {"enable_thinking": thinking}
    ours = saved(read.for_prompts(options=options), tmp_path / "run")
    theirs = exported(ours, tmp_path / "out")
    assert theirs_of(tmp_path / "out", "hello") == begun(ours, "hello")
    for other in (True, False):
        asked = theirs.apply_chat_template([{"role": "user", "content": "a"}], enable_thinking=other, return_dict=False)
        assert asked == begun(read.for_prompts(options={"enable_thinking": other}), "a")
    assert saved(ours, tmp_path / "again").for_prompts().encode_prompts(["a"]) == ours.encode_prompts(["a"])


def test_the_class_of_the_cards_programs_reads_the_tokenizer_of_a_qwen2_as_it_is(tmp_path: Path) -> None:
    write_model(tmp_path / "m", TransformerConfig(**QWEN3 | {"qk_norm": False, "qkv_bias": True}))
    assert open_model(tmp_path / "m").network.family == "qwen2"
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "m")
    assert theirs("two cats")["input_ids"] == [1, 4, 5]
    for program in (HF_USE, CHAT_USE):
        assert "PreTrainedTokenizerFast))" in program
