"""The networks of the cases in PyTorch, with our weights: pre-norm GPT, LSTM language model, prefix CNN.

Optimised for PyTorch: a fused query, key and value product, `scaled_dot_product_attention`, a static key/value cache of
which attention reads only the filled part, convolutions by `conv1d`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.sides import Arrays


class Block(nn.Module):
    """Pre-norm block of GPT-2."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        batch, length, width = x.shape
        qkv = self.qkv(self.ln_1(x)).view(batch, length, 3, self.heads, width // self.heads)
        return tuple(part.transpose(1, 2) for part in qkv.unbind(2))

    def mlp(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.mlp(x + self.out(mixed.transpose(1, 2).reshape(x.shape)))

    def decode(self, x: Tensor, keys: Tensor, values: Tensor, position: int) -> Tensor:
        """One token per row, [B, 1, D]; its keys and values are written to [B, H, S, E] at `position`."""
        q, k, v = self.split(x)
        keys[:, :, position : position + 1] = k
        values[:, :, position : position + 1] = v
        mixed = F.scaled_dot_product_attention(q, keys[:, :, : position + 1], values[:, :, : position + 1])
        return self.mlp(x + self.out(mixed.transpose(1, 2).reshape(x.shape)))

    def decode_masked(self, x: Tensor, keys: Tensor, values: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """The same with static shapes for a compiler: attends to all slots under a mask [1, S]."""
        q, k, v = self.split(x)
        keys.index_copy_(2, position, k)
        values.index_copy_(2, position, v)
        mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        return self.mlp(x + self.out(mixed.transpose(1, 2).reshape(x.shape)))


class Trunk(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, layers: int, width: int, heads: int, positions: int, vocab_size: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab_size, width), nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.ln_f(x)

    def decode(self, tokens: Tensor, cache: list[tuple[Tensor, Tensor]], position: int) -> Tensor:
        x = self.wte(tokens)[:, None] + self.wpe.weight[position]
        for block, (keys, values) in zip(self.blocks, cache, strict=True):
            x = block.decode(x, keys, values, position)
        return self.ln_f(x)[:, 0]

    def decode_masked(self, tokens: Tensor, cache: list[tuple[Tensor, Tensor]], position: Tensor) -> Tensor:
        x = self.wte(tokens)[:, None] + self.wpe(position)
        mask = (torch.arange(cache[0][0].shape[2], device=position.device) <= position)[None]
        for block, (keys, values) in zip(self.blocks, cache, strict=True):
            x = block.decode_masked(x, keys, values, position, mask)
        return self.ln_f(x)[:, 0]

    def cache(self, rows: int, slots: int) -> list[tuple[Tensor, Tensor]]:
        heads, weight = self.blocks[0].heads, self.wte.weight
        shape = rows, heads, slots, weight.shape[1] // heads
        return [(weight.new_zeros(shape), weight.new_zeros(shape)) for _ in self.blocks]


class Gpt(nn.Module):
    """A generator with tied embeddings."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def head(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.trunk.wte.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.trunk(tokens))


class GptJudge(nn.Module):
    """A discriminator: one score per token."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk, self.score = trunk, nn.Linear(trunk.wte.weight.shape[1], 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.score(self.trunk(tokens))[..., 0]


class Lstm(nn.Module):
    """A one-layer LSTM language model; gates ordered input, forget, cell, output."""

    def __init__(self, vocab_size: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocab_size, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.out = nn.Linear(hidden, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.lstm(self.wte(tokens))[0])

    def start(self, rows: int) -> tuple[Tensor, Tensor]:
        zeros = self.wte.weight.new_zeros(rows, self.lstm.hidden_size)
        return zeros, zeros

    def decode(self, tokens: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Logits [B, V] after one token per row; state is (hidden, cell)."""
        layer = self.lstm
        state = torch.lstm_cell(
            self.wte(tokens), state, layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0
        )
        return self.out(state[0]), state


class Cnn(nn.Module):
    """Prefix scores by windows that end at each token and the maximum so far."""

    def __init__(self, vocab_size: int, embedding: int, widths: tuple[int, ...], filters: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocab_size, embedding)
        self.windows = nn.ModuleList(nn.Conv1d(embedding, filters, width) for width in widths)
        self.score = nn.Linear(filters * len(widths), 1)

    def features(self, tokens: Tensor) -> Tensor:
        """[B, filters, S]"""
        x = self.wte(tokens).transpose(1, 2)
        return torch.cat([F.relu(conv(F.pad(x, (conv.kernel_size[0] - 1, 0)))) for conv in self.windows], dim=1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.score(self.features(tokens).cummax(dim=2).values.transpose(1, 2))[..., 0]

    def whole(self, tokens: Tensor) -> Tensor:
        """The score of whole texts, [B]."""
        return self.score(self.features(tokens).amax(dim=2))[..., 0]


# ---- our weights in these modules


def load_weights(module: nn.Module, given: Arrays, prefix: str) -> None:
    """Loads our parameters, whose names begin with `prefix`."""
    own = {name.removeprefix(prefix): x for name, x in given.items() if name.startswith(prefix)}
    module.load_state_dict({name: torch.tensor(x) for name, x in as_torch(module, own).items()})


def translated(ours: Arrays, modules: dict[str, nn.Module]) -> Arrays:
    """Our outputs, with the gradients of each module, which are found by its prefix, under PyTorch's names."""
    found = {name: x for name, x in ours.items() if not name.startswith(tuple(modules))}
    for prefix, module in modules.items():
        own = {name.removeprefix(prefix): x for name, x in ours.items() if name.startswith(prefix)}
        found |= {prefix + name: x for name, x in as_torch(module, own).items()}
    return found


def as_torch(module: nn.Module, ours: Arrays) -> Arrays:
    """Our parameters or gradients under the names and in the layouts of one of these modules."""
    if isinstance(module, Gpt | GptJudge):
        return _transformer(module.trunk, ours)
    if isinstance(module, Lstm):
        return _lstm(module, ours)
    assert isinstance(module, Cnn)
    return _cnn(module, ours)


def _affine(ours: Arrays, name: str) -> Any:
    weight = ours[f"{name}/scale"] if f"{name}/scale" in ours else ours[f"{name}/kernel"].T
    return weight, ours[f"{name}/bias"]


def _transformer(trunk: Trunk, ours: Arrays) -> Arrays:
    found = {"trunk.wte.weight": ours["trunk/embedding/table"], "trunk.wpe.weight": ours["trunk/positions"]}
    names = {"trunk.ln_f": "trunk/decoder/norm"}
    heads, width = trunk.blocks[0].heads, trunk.wte.weight.shape[1]
    for i in range(len(trunk.blocks)):
        block, theirs = f"trunk/decoder/block_{i}", f"trunk.blocks.{i}"
        names |= {
            f"{theirs}.ln_1": f"{block}/attention_norm",
            f"{theirs}.ln_2": f"{block}/mlp_norm",
            f"{theirs}.out": f"{block}/attention/out",
            f"{theirs}.up": f"{block}/mlp/up",
            f"{theirs}.down": f"{block}/mlp/down",
        }
        # Ours is grouped by head: [head, (q, k, v), E]; theirs [(q, k, v), head, E].
        kernel, bias = ours[f"{block}/attention/qkv/kernel"], ours[f"{block}/attention/qkv/bias"]
        size = width // heads
        found[f"{theirs}.qkv.weight"] = kernel.reshape(width, heads, 3, size).swapaxes(1, 2).reshape(width, 3 * width).T
        found[f"{theirs}.qkv.bias"] = bias.reshape(heads, 3, size).swapaxes(0, 1).reshape(3 * width)
    if "head/score/kernel" in ours:
        names["score"] = "head/score"
    for theirs, name in names.items():
        found[f"{theirs}.weight"], found[f"{theirs}.bias"] = _affine(ours, name)
    return found


def _lstm(module: Lstm, ours: Arrays) -> Arrays:
    layer, hidden = "network/decoder_0", module.lstm.hidden_size
    bias = ours[f"{layer}/inputs/bias"]
    # Ours adds 1 to the forget gate; in theirs it goes into the second bias.
    forget = torch.zeros(4 * hidden)
    forget[hidden : 2 * hidden] = 1
    return {
        "wte.weight": ours["network/embedding/table"],
        "lstm.weight_ih_l0": ours[f"{layer}/inputs/kernel"].T,
        "lstm.weight_hh_l0": ours[f"{layer}/recurrent"].T,
        "lstm.bias_ih_l0": bias,
        "lstm.bias_hh_l0": forget.numpy(),
        "out.weight": ours["network/head/kernel"].T,
        "out.bias": ours["network/head/bias"],
    }


def _cnn(module: Cnn, ours: Arrays) -> Arrays:
    found = {"wte.weight": ours["embedding/table"]}
    for i, conv in enumerate(module.windows):
        filters, embedding, width = conv.weight.shape
        name = f"width_{width}"
        found[f"windows.{i}.weight"] = ours[f"{name}/kernel"].reshape(width, embedding, filters).transpose(2, 1, 0)
        found[f"windows.{i}.bias"] = ours[f"{name}/bias"]
    found["score.weight"], found["score.bias"] = _affine(ours, "head/score")
    return found
