"""The same network with the same weights in PyTorch gives the same logits, loss, gradients and updates."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import VOCABULARY, batch_of, build, generator_of

from gptgan_jax import LstmConfig, TransformerConfig
from gptgan_jax.models.lstm import LstmLayer
from gptgan_jax.objectives.likelihood import cross_entropy
from gptgan_jax.objectives.optimizers import OptimizerConfig, build_optimizer

torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra: pip install .[torch]")
nn = torch.nn

CONFIG = TransformerConfig(layers=2, width=16, heads=4, max_positions=16)
CLOSE: dict[str, float] = {"rtol": 2e-4, "atol": 2e-6}


def tensor(x: Any) -> Any:
    return torch.tensor(np.asarray(x))


class Block(nn.Module):
    """A pre-norm block of GPT-2, with PyTorch's own attention."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.c_attn, self.c_proj = nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x: Any) -> Any:
        batch, length, width = x.shape
        q, k, v = (y.view(batch, length, 4, 4).transpose(1, 2) for y in self.c_attn(self.ln_1(x)).split(width, dim=2))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(nn.functional.gelu(self.up(self.ln_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    """GPT-2: learned positions, pre-norm blocks, tied output."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY.size, 16), nn.Embedding(16, 16)
        self.h = nn.ModuleList([Block(), Block()])
        self.ln_f = nn.LayerNorm(16)

    def forward(self, tokens: Any) -> Any:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


def as_torch(params: Any) -> dict[str, Any]:
    """Our parameters (or their gradients) under the names of `Gpt2`."""
    trunk = params["trunk"]
    found = {"wte.weight": trunk["embedding"]["table"], "wpe.weight": trunk["positions"]}

    def take(name: str, layer: Any) -> None:
        found[f"{name}.weight"] = layer["scale"] if "scale" in layer else layer["kernel"].T
        found[f"{name}.bias"] = layer["bias"]

    take("ln_f", trunk["decoder"]["norm"])
    for i in range(2):
        block = trunk["decoder"][f"block_{i}"]
        take(f"h.{i}.ln_1", block["attention_norm"])
        take(f"h.{i}.ln_2", block["mlp_norm"])
        take(f"h.{i}.c_proj", block["attention"]["out"])
        take(f"h.{i}.up", block["mlp"]["up"])
        take(f"h.{i}.down", block["mlp"]["down"])
        fused = block["attention"]["qkv"]  # columns by head: [head, (q, k, v), 4]; GPT-2's: [(q, k, v), head, 4]
        take(f"h.{i}.c_attn", {
            "kernel": fused["kernel"].reshape(16, 4, 3, 4).swapaxes(1, 2).reshape(16, 48),
            "bias": fused["bias"].reshape(4, 3, 4).swapaxes(0, 1).reshape(48),
        })  # fmt: skip
    return found


def test_logits_loss_and_gradients_of_gpt2_equal_pytorchs() -> None:
    generator, params = build(CONFIG)
    batch = batch_of(prompts=(3, 3, 3), targets=(4, 2, 3))

    def loss_of(params: Any) -> tuple[jax.Array, jax.Array]:
        logits = generator.logits(params, batch)
        return cross_entropy(logits, batch.target, batch.target_mask), logits

    (loss, logits), gradient = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(params)

    theirs = Gpt2()
    theirs.load_state_dict({name: tensor(x) for name, x in as_torch(params).items()})
    tokens = torch.cat([tensor(batch.prompt), tensor(batch.target)[:, :-1]], dim=1).long()
    their_logits = theirs(tokens)[:, 2:]
    labels = tensor(jnp.where(batch.target_mask, batch.target, -100)).long()
    their_loss = nn.functional.cross_entropy(their_logits.reshape(-1, 7), labels.reshape(-1))
    their_loss.backward()

    mask = np.asarray(batch.target_mask)
    np.testing.assert_allclose(np.asarray(logits)[mask], their_logits.detach().numpy()[mask], **CLOSE)
    assert float(loss) == pytest.approx(their_loss.item(), rel=1e-5)
    for name, ours in as_torch(gradient).items():
        expected = theirs.get_parameter(name).grad.numpy()
        assert np.abs(expected).max() > 1e-5
        np.testing.assert_allclose(ours, expected, **CLOSE, err_msg=name)


def test_lstm_states_equal_pytorchs() -> None:
    config = generator_of("lstm")[0].config
    assert isinstance(config, LstmConfig)
    network = generator_of("lstm")[1]["network"]
    theirs = nn.LSTM(config.embedding, config.hidden, config.layers, batch_first=True)
    for i in range(config.layers):
        layer = network[f"decoder_{i}"]
        forget = np.eye(4)[1].repeat(config.hidden)  # ours starts the forget gate at + 1, PyTorch at its bias
        with torch.no_grad():
            getattr(theirs, f"weight_ih_l{i}").copy_(tensor(layer["inputs"]["kernel"].T))
            getattr(theirs, f"weight_hh_l{i}").copy_(tensor(layer["recurrent"].T))
            getattr(theirs, f"bias_ih_l{i}").copy_(tensor(np.asarray(layer["inputs"]["bias"]) + forget))
            getattr(theirs, f"bias_hh_l{i}").zero_()
    x = np.random.default_rng(0).normal(size=(2, 5, config.embedding)).astype(np.float32)
    expected, (their_hidden, their_cell) = theirs(tensor(x))
    hidden = jnp.asarray(x)
    zeros = jnp.zeros((2, config.hidden))
    for i in range(config.layers):
        layer = {"params": network[f"decoder_{i}"]}
        hidden, (cell, last) = LstmLayer(config.hidden, "float32", None).apply(
            layer, hidden, jnp.ones((2, 5), bool), (zeros, zeros)
        )
        np.testing.assert_allclose(cell, their_cell[i].detach().numpy(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(last, their_hidden[i].detach().numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(hidden, expected.detach().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clip_norm", [None, 0.7])
def test_five_updates_of_adamw_equal_pytorchs(clip_norm: float | None) -> None:
    config = OptimizerConfig(
        learning_rate=0.05, beta1=0.85, beta2=0.95, eps=1e-6, weight_decay=0.1, clip_norm=clip_norm
    )
    optimizer = build_optimizer(config, 5)
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32), "bias": jnp.ones(2)}
    theirs = {name: nn.Parameter(tensor(x)) for name, x in params.items()}
    groups = [{"params": [theirs["kernel"]], "weight_decay": 0.1}, {"params": [theirs["bias"]], "weight_decay": 0.0}]
    their_optimizer = torch.optim.AdamW(groups, lr=0.05, betas=(0.85, 0.95), eps=1e-6)
    state = optimizer.init(params)
    for _ in range(5):
        gradient = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        for name, parameter in theirs.items():
            parameter.grad = tensor(gradient[name])
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(theirs.values(), clip_norm)
        their_optimizer.step()
        for name, parameter in theirs.items():
            np.testing.assert_allclose(params[name], parameter.detach().numpy(), rtol=2e-5, atol=1e-6)
