"""The configuration of a Transformer."""

from typing import Literal

import numpy as np
from pydantic import model_validator

from gptgan_jax.layers.lora import LoraConfig
from gptgan_jax.layers.rotary import RopeScaling, frequencies
from gptgan_jax.schema import config_dataclass, key


@config_dataclass
class TransformerConfig:
    """The network of a Transformer. The defaults are GPT-2's architecture at a size that suits a CPU.

    Example:
        >>> config = gg.TransformerConfig(layers=1, width=8, heads=2)
        >>> network = gg.build_generator(config, vocabulary)
        >>> network.logits(network.init(key, batch), batch).shape, config.head_size
        ((2, 3, 8), 4)
    """

    kind: Literal["transformer"] = "transformer"
    layers: int = key(4, "blocks of the decoder", ge=1)
    encoder_layers: int = key(0, "blocks of the encoder, which reads the prompt; 0: decoder-only", ge=0)
    width: int = key(128, "size of the hidden states, D", ge=1)
    heads: int = key(4, "attention heads, H; must divide width unless head_width is given", ge=1)
    kv_heads: int | None = key(None, "key/value heads, K (grouped-query attention); default: heads", ge=1)
    head_width: int | None = key(None, "size of a head; default: width / heads", ge=1)
    mlp_width: int | None = key(None, "hidden size of a block's MLP, F; default: 4 * width", ge=1)
    norm: Literal["layer", "rms"] = key("layer", "LayerNorm or RMSNorm")
    norm_eps: float = key(1e-5, "added to the variance in the norm", gt=0)
    activation: Literal["gelu", "gelu_tanh", "relu", "swiglu"] = key("gelu_tanh", "the MLP's nonlinearity")
    positions: Literal["learned", "rotary"] = key("learned", "learned or rotary position embeddings")
    max_positions: int = key(256, "longest prompt plus target, in tokens", ge=2)
    window: int | None = key(
        None,
        "sliding window (Mistral): a token attends to itself and the window - 1 tokens before it; default: to all",
        ge=1,
    )
    rope_theta: float = key(10000.0, "base of the rotary wavelengths", gt=0)
    rope_scaling: RopeScaling = key("none", "slower rotation for longer contexts, as in Llama 3.1 to 3.3")
    rope_factor: float = key(8.0, "with llama3: factor by which slow feature pairs are slowed down", ge=1)
    rope_low_turns: float = key(
        1.0, "with llama3: pairs with at most this many turns in rope_original_positions are slowed down", gt=0
    )
    rope_high_turns: float = key(4.0, "with llama3: pairs with at least this many turns are unchanged", gt=0)
    rope_original_positions: int = key(8192, "with llama3: length of the original context, in tokens", ge=1)
    qkv_bias: bool = key(True, "bias on queries, keys and values")
    bias: bool = key(True, "bias on the other projections")
    qk_norm: bool = key(False, "RMSNorm on each query and key head (Qwen3)")
    tied_embeddings: bool = key(True, "output logits use the input embedding table")
    dropout: float = key(0.0, "dropout rate after embeddings, attention and MLP", ge=0, lt=1)
    dtype: Literal["float32", "bfloat16"] = key("float32", "type in which matrix products are computed")
    attention: Literal["dense", "flash"] = key(
        "dense",
        "flash: kernels that never hold all attention scores of a text (Splash on a TPU, cuDNN on an NVIDIA GPU), in "
        "bfloat16; pays off from a few hundred tokens on. Attention to an encoder stays dense",
    )
    remat: bool = key(False, "recompute activations in the backward pass to save memory")
    scan_layers: bool = key(False, "compile one block and scan it over the layers; pays off from about 24 layers on")
    lora: LoraConfig = key(LoraConfig, "adapters that are trained in place of the weights")

    @property
    def key_value_heads(self) -> int:
        """K."""
        return self.kv_heads or self.heads

    @property
    def group(self) -> int:
        """Query heads of one key/value head, G."""
        return self.heads // self.key_value_heads

    @property
    def head_size(self) -> int:
        """E."""
        return self.head_width or self.width // self.heads

    @property
    def reach(self) -> int | None:
        """The window if it is shorter than the longest text; None: each token attends to all before it."""
        return self.window if self.window is not None and self.window < self.max_positions else None

    @property
    def mlp_size(self) -> int:
        """F."""
        return self.mlp_width or 4 * self.width

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of the weight matrices in its blocks."""
        cross = ("query", "key_value") if self.encoder_layers else ()
        gate = ("gate",) if self.activation == "swiglu" else ()
        return ("qkv", *cross, "out", *gate, "up", "down")

    @property
    def frequencies(self) -> np.ndarray:
        """Angular frequencies of the rotary positions, float32 [E/2]."""
        scaling = (self.rope_scaling, self.rope_factor, self.rope_low_turns, self.rope_high_turns)
        return frequencies(self.head_size, self.rope_theta, *scaling, self.rope_original_positions)

    @model_validator(mode="after")
    def _check(self) -> "TransformerConfig":
        if self.head_width is None and self.width % self.heads:
            raise ValueError(
                f"width {self.width} is not a multiple of heads {self.heads}; give head_width, or change one"
            )
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.positions == "rotary" and self.head_size % 2:
            raise ValueError("rotary positions need an even head width")
        if self.rope_scaling != "none" and self.positions != "rotary":
            raise ValueError(f"rope_scaling {self.rope_scaling} needs positions rotary, not {self.positions}")
        if self.rope_low_turns >= self.rope_high_turns:
            raise ValueError(
                f"rope_low_turns {self.rope_low_turns} is not less than rope_high_turns {self.rope_high_turns}"
            )
        if self.attention == "flash" and self.dtype != "bfloat16":
            raise ValueError("attention flash needs dtype bfloat16: set that, or attention dense")
        if self.attention == "flash" and self.head_size % 8:
            raise ValueError(f"attention flash needs heads of a multiple of 8 features, not {self.head_size}")
        if self.window is not None and self.encoder_layers:
            raise ValueError("window is for a decoder-only Transformer: set encoder_layers to 0, or drop window")
        if self.reach is not None and self.attention == "flash":
            raise ValueError(
                f"attention flash has no window: set attention dense, or max_positions to at most window {self.window}"
            )
        self.lora.check_targets(self.matrices)
        return self
