"""Tiny Hugging Face folders, made without transformers."""

from pathlib import Path
from typing import Any

import jax
import tokenizers
from helpers import batch_of, build
from tokenizers import models, pre_tokenizers

from gptgan_jax import Generator, TransformerConfig, Vocabulary
from gptgan_jax.data.tokenizers import read_tokenizer
from gptgan_jax.pretrained.huggingface import save_model

WORDS = ["two", "cats", "dogs", "birds", "mice", "cows", "run", "sleep", "sing", "eat", "hide", "here", "there", "now"]
QWEN3: dict[str, Any] = {
    "layers": 2,
    "width": 8,
    "heads": 4,
    "kv_heads": 2,
    "head_width": 6,
    "mlp_width": 10,
    "norm": "rms",
    "activation": "swiglu",
    "positions": "rotary",
    "max_positions": 16,
    "qkv_bias": False,
    "bias": False,
    "qk_norm": True,
}


def write_words(folder: Path, words: list[str] = WORDS) -> None:
    """FOLDER/tokenizer.json: ids 0 to 3 are special, then a word each."""
    names = ["<pad>", "<bos>", "<eos>", "<unk>", *words]
    backend = tokenizers.Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(names[:4])
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))


def write_model(
    folder: Path, config: TransformerConfig | None = None, rows: int = 20, **options: Any
) -> tuple[Generator, Any]:
    """A folder with random weights, two rows more than words; the generator and the parameters that it holds."""
    write_words(folder)
    generator, params = build(config or TransformerConfig(**QWEN3), Vocabulary(rows))
    save_model(folder, generator, params, read_tokenizer(folder / "tokenizer.json").padded(rows), **options)
    return generator, params


def on_one_device(generator: Generator) -> Any:
    """Its parameters as shape structs on the first device."""
    shapes = jax.eval_shape(generator.init, jax.random.key(0), batch_of(vocabulary=generator.vocabulary))
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes)
