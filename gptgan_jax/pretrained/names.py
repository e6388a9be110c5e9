"""What each parameter is called in files of GPT-2 and of the Llama family (Mistral and Qwen too): a table for each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.pretrained.layouts import Heads, Layout, Plain, Stacked

HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Names:
    """The names of a family.

    Attributes:
        prefix: before all names but the head's; files of a network without a head go without it.
        block: before the names in a block; {} is its number.
        transposed: kernels are [outputs, inputs]. The head's always are.
        outside, inside: from our path, outside of the blocks or inside of one, to theirs; queries, keys and values
            are three names, or one for the three side by side.
        ignored: of tensors that hold nothing learned.
    """

    prefix: str
    block: str
    transposed: bool
    outside: Mapping[str, str]
    inside: Mapping[str, tuple[str, ...]]
    ignored: str


GPT2 = Names(
    prefix="transformer.",
    block="h.{}.",
    transposed=False,
    outside={
        "trunk/embedding/table": "wte.weight",
        "trunk/positions": "wpe.weight",
        "trunk/decoder/norm/scale": "ln_f.weight",
        "trunk/decoder/norm/bias": "ln_f.bias",
    },
    inside={
        "attention_norm/scale": ("ln_1.weight",),
        "attention_norm/bias": ("ln_1.bias",),
        "attention/qkv/kernel": ("attn.c_attn.weight",),
        "attention/qkv/bias": ("attn.c_attn.bias",),
        "attention/out/kernel": ("attn.c_proj.weight",),
        "attention/out/bias": ("attn.c_proj.bias",),
        "mlp_norm/scale": ("ln_2.weight",),
        "mlp_norm/bias": ("ln_2.bias",),
        "mlp/up/kernel": ("mlp.c_fc.weight",),
        "mlp/up/bias": ("mlp.c_fc.bias",),
        "mlp/down/kernel": ("mlp.c_proj.weight",),
        "mlp/down/bias": ("mlp.c_proj.bias",),
    },
    ignored=r"h\.\d+\.attn\.(bias|masked_bias)",
)
LLAMA = Names(
    prefix="model.",
    block="layers.{}.",
    transposed=True,
    outside={
        "trunk/embedding/table": "embed_tokens.weight",
        "trunk/decoder/norm/scale": "norm.weight",
    },
    inside={
        "attention_norm/scale": ("input_layernorm.weight",),
        "attention/qkv/kernel": tuple(f"self_attn.{part}_proj.weight" for part in "qkv"),
        "attention/qkv/bias": tuple(f"self_attn.{part}_proj.bias" for part in "qkv"),
        "attention/query_norm/scale": ("self_attn.q_norm.weight",),
        "attention/key_norm/scale": ("self_attn.k_norm.weight",),
        "attention/out/kernel": ("self_attn.o_proj.weight",),
        "attention/out/bias": ("self_attn.o_proj.bias",),
        "mlp_norm/scale": ("post_attention_layernorm.weight",),
        "mlp/gate/kernel": ("mlp.gate_proj.weight",),
        "mlp/gate/bias": ("mlp.gate_proj.bias",),
        "mlp/up/kernel": ("mlp.up_proj.weight",),
        "mlp/up/bias": ("mlp.up_proj.bias",),
        "mlp/down/kernel": ("mlp.down_proj.weight",),
        "mlp/down/bias": ("mlp.down_proj.bias",),
    },
    ignored=r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
)
NAMES = {"gpt2": GPT2, "llama": LLAMA, "mistral": LLAMA, "qwen2": LLAMA, "qwen3": LLAMA}


def layout_of(path: str, names: Names, config: TransformerConfig, prefix: str) -> Layout:
    """Where a parameter of a generator lies.

    Args:
        path: of the parameter, such as "trunk/decoder/block_0/mlp/up/kernel"; "blocks" are all of them, scanned.
        names: of the family.
        config: of the network.
        prefix: `names.prefix`, or what stands in its place.

    Raises:
        KeyError: the family has no such parameter.
    """
    if path == "head/kernel":
        return Plain(HEAD, transposed=True)
    found = re.fullmatch(r"trunk/decoder/(blocks|block_(\d+))/(.*)", path)
    if found is None:
        return Plain(prefix + names.outside[path])

    def in_block(number: int) -> Layout:
        inside = found[3]
        theirs = tuple(prefix + names.block.format(number) + name for name in names.inside[inside])
        transposed = names.transposed and inside.endswith("kernel")
        if "/qkv/" in inside:
            return Heads(theirs, transposed, config.key_value_heads, config.group, config.head_size)
        return Plain(theirs[0], transposed)

    if found[1] == "blocks":
        return Stacked([in_block(number) for number in range(config.layers)])
    return in_block(int(found[2]))


def is_ignored(name: str, names: Names, config: TransformerConfig) -> bool:
    """Whether a tensor holds nothing that the network needs: a mask, a table of angles, a tied head."""
    if name == HEAD:
        return config.tied_embeddings
    return re.fullmatch(names.ignored, name.removeprefix(names.prefix)) is not None
