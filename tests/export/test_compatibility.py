"""An exported folder, adapters merged, in programs of others: the same tokens, logits and greedy texts.

docs/compatibility.md has what was tried with a real model.
"""

import dataclasses
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import build
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from gptgan_jax import Batch, TransformerConfig, Vocabulary, build_generator, sample
from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.tokenizers import (
    BpeTokenizer,
    CharacterTokenizer,
    WordTokenizer,
    fit_tokenizer,
    read_tokenizer,
)
from gptgan_jax.layers.lora import LoraConfig, merged
from gptgan_jax.pretrained.huggingface import save_model

pytestmark = pytest.mark.thorough  # `.ci/run`, where they are installed
LENGTH = 8
PROMPTS = ["two cats", "It's 12", "naïve mice sing", "now"]
LLAMA = TransformerConfig(
    layers=2,
    width=32,
    heads=4,
    kv_heads=2,
    mlp_width=64,
    norm="rms",
    activation="swiglu",
    positions="rotary",
    rope_theta=100.0,
    max_positions=64,
    qkv_bias=False,
    bias=False,
    lora=LoraConfig(rank=2),
)


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the generator with its adapters gives.

    Attributes:
        folder: that it was exported into.
        ids: tokens of the prompts.
        logits: after each prompt, [N, V].
        texts: tokens of the likeliest texts; none of them ends before `LENGTH`.
    """

    folder: Path
    ids: list[list[int]]
    logits: np.ndarray
    texts: list[list[int]]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    folder = tmp_path_factory.mktemp("exported")
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = ["<pad>", "<bos>", "<eos>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=290, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(PROMPTS * 5, trainer)
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = read_tokenizer(folder / "tokenizer.json")
    vocabulary: Vocabulary = tokenizer.vocabulary
    adapted, params = build(LLAMA, vocabulary)
    plain = build_generator(dataclasses.replace(LLAMA, lora=LoraConfig()), vocabulary)
    save_model(folder, plain, merged(params, LLAMA.lora), tokenizer)
    ids = [backend_ids(folder, prompt) for prompt in PROMPTS]
    logits, texts = [], []
    for one in ids:
        prompt, mask = jnp.asarray([one], jnp.int32), jnp.ones((1, len(one)), bool)
        batch = Batch(prompt, mask, jnp.full((1, 1), 2, jnp.int32), jnp.ones((1, 1), bool), jnp.full(1, -1, jnp.int32))
        logits.append(np.asarray(adapted.logits(params, batch))[0, 0])
        texts.append(
            sample(adapted, params, jax.random.key(0), prompt, mask, LENGTH, temperature=0.0).tokens[0].tolist()
        )
    assert not any(2 in text for text in texts)
    assert len({tuple(text) for text in texts}) == len(texts)
    return Expected(folder, ids, np.stack(logits), texts)


def backend_ids(folder: Path, text: str) -> list[int]:
    return Backend.from_file(str(folder / "tokenizer.json")).encode(text).ids


def with_transformers(folder: Path) -> tuple[Any, Callable[[list[int]], np.ndarray], Callable[[list[int]], list[int]]]:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()

    def logits(ids: list[int]) -> np.ndarray:
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0, -1].numpy()

    def text(ids: list[int]) -> list[int]:
        given = {"attention_mask": torch.ones(1, len(ids), dtype=torch.long), "do_sample": False}
        return model.generate(torch.tensor([ids]), max_new_tokens=LENGTH, **given)[0, len(ids) :].tolist()

    return transformers.AutoTokenizer.from_pretrained(folder), logits, text


def with_ctranslate2(folder: Path) -> tuple[Any, Callable[[list[int]], np.ndarray], Callable[[list[int]], list[int]]]:
    ctranslate2 = pytest.importorskip("ctranslate2")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    out = str(folder.with_name("ctranslate2"))
    ctranslate2.converters.TransformersConverter(str(folder)).convert(out, force=True)
    generator = ctranslate2.Generator(out, device="cpu", compute_type="float32", inter_threads=1, intra_threads=1)

    def logits(ids: list[int]) -> np.ndarray:
        return np.array(generator.forward_batch([tokenizer.convert_ids_to_tokens(ids)]))[0, -1]

    def text(ids: list[int]) -> list[int]:
        tokens = tokenizer.convert_ids_to_tokens(ids)
        options = {"include_prompt_in_result": False, "sampling_topk": 1}
        return generator.generate_batch([tokens], max_length=LENGTH, **options)[0].sequences_ids[0]

    return tokenizer, logits, text


def with_mlx(folder: Path) -> tuple[Any, Callable[[list[int]], np.ndarray], Callable[[list[int]], list[int]]]:
    mx = pytest.importorskip("mlx.core")
    mlx_lm = pytest.importorskip("mlx_lm")
    from mlx_lm.generate import generate_step

    model, tokenizer = mlx_lm.load(str(folder))

    def logits(ids: list[int]) -> np.ndarray:
        return np.array(model(mx.array([ids]))[0, -1])

    def text(ids: list[int]) -> list[int]:
        return [int(token) for token, _ in generate_step(mx.array(ids), model, max_tokens=LENGTH)]

    return tokenizer, logits, text


@pytest.mark.parametrize("reader", [with_transformers, with_ctranslate2, with_mlx], ids=lambda one: one.__name__[5:])
def test_a_reader_gives_the_same_tokens_logits_and_texts(reader: Any, expected: Expected) -> None:
    assert json.loads((expected.folder / "config.json").read_text())["rope_theta"] == 100.0
    tokenizer, logits, text = reader(expected.folder)
    for i, prompt in enumerate(PROMPTS):
        assert tokenizer.encode(prompt) == expected.ids[i]
        np.testing.assert_allclose(logits(expected.ids[i]), expected.logits[i], rtol=1e-4, atol=1e-3)
        assert text(expected.ids[i]) == expected.texts[i]


SCRIPTS = (
    "two cats don't sing here It's 12 3.5",
    "naïve Straße cafe\u0301 ΛΟΓΟΣ Σοφος λόγος",
    "привет Ещё नमस्ते سلام ١٢٣ 한국어",
    "春眠不觉晓 𠮷 ひらがな",
    "CC(=O)Cl c1ccccc1 [nH] ½ m² Ⅷ",
    "🙂 👩‍👩‍👧 a\u00a0b x\u3000y",
)
KINDS: dict[str, Any] = {
    "words": WordTokenizer(vocab_size=25),
    "words in lower case": WordTokenizer(lowercase=True),
    "characters": CharacterTokenizer(min_count=30),
    "symbols of several": CharacterTokenizer(symbols=r"Cl|Br|\[[^\]]+\]"),
    "byte pairs": BpeTokenizer(vocab_size=300),
}
IN_NODE = """
const { Tokenizer } = require("@huggingface/tokenizers");
const { folder, texts } = JSON.parse(require("fs").readFileSync(0));
const [json, names] = ["tokenizer", "tokenizer_config"].map((name) => require(`${folder}/${name}.json`));
const tokenizer = new Tokenizer(json, names);
console.log(JSON.stringify(texts.map((text) => tokenizer.encode(text).ids)));
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_texts_have_the_same_ids_in_javascript(kind: str, tmp_path: Path) -> None:
    """Needs Node, and NODE_PATH to be where @huggingface/tokenizers is installed."""
    node = shutil.which("node")
    if (
        node is None
        or subprocess.run([node, "--eval", 'require("@huggingface/tokenizers")'], capture_output=True).returncode
    ):
        pytest.skip("needs Node and @huggingface/tokenizers")
    draw = random.Random(0)
    words = [word for script in SCRIPTS for word in script.split(" ")]
    texts = [draw.choice([" ", "  ", "\t"]).join(draw.choices(words, k=draw.randint(1, 9))) for _ in range(1000)]
    tokenizer = fit_tokenizer(KINDS[kind], Corpus(Split(texts[:300]), Split([]), Split([]))).for_prompts()
    generator, params = build(TransformerConfig(layers=1, width=8, heads=2, max_positions=64), tokenizer.vocabulary)
    save_model(tmp_path, generator, params, tokenizer)
    given = json.dumps({"folder": str(tmp_path), "texts": texts})
    done = subprocess.run([node, "--eval", IN_NODE], input=given, capture_output=True, text=True, check=True)
    bos = tokenizer.vocabulary.bos_id
    assert json.loads(done.stdout) == [[bos, *ids] for ids in tokenizer.encode_batch(texts)]
