"""The rival of the cases with a real model: transformers and PEFT, in well-optimised use."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.sides import MODEL, MODEL_TOKENS, PROMPT, Arrays, Side, as_bytes, config_of
from benchmarks.torch_parts import DEVICE, as_array, finished

# Our matrix -> theirs: our qkv combines their query, key and value matrices, whose adapters then share A.
MODULES = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "gate": ("mlp.gate_proj",),
    "up": ("mlp.up_proj",),
    "down": ("mlp.down_proj",),
}
BLOCKS = "trunk/decoder/blocks"


def _place(matrix: str) -> str:
    """The path of a matrix in our parameters."""
    return f"{BLOCKS}/{'mlp' if MODULES[matrix][0].startswith('mlp') else 'attention'}/{matrix}"


def side(case: str, given: Arrays, settings: dict[str, Any]) -> Side:
    """The rival of a case with one of its settings, from our side's inputs."""
    torch.manual_seed(0)
    made = _SIDES[case](given, settings)
    return made._replace(run=finished(made.run))


def _model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).to(DEVICE).train(False)


# ---- adapters


def _lora(given: Arrays, settings: dict[str, Any]) -> Side:
    from peft import LoraConfig, get_peft_model

    config = config_of("smollm_lora")
    lora = config.generator.lora
    adapted = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules="all-linear")
    model = get_peft_model(_model(), adapted)
    adapters = _Adapters(model)
    adapters.set(given)
    learning = [x for x in model.parameters() if x.requires_grad]
    rate = config.likelihood.optimizer.learning_rate
    optimizer = torch.optim.AdamW(learning, lr=rate, weight_decay=0.0, fused=True)
    targets = torch.tensor(given["text"], device=DEVICE).long()
    start = torch.full_like(targets[:, :1], model.config.bos_token_id)
    inputs = torch.cat([start, targets[:, :-1]], dim=1)

    def nats(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(input_ids=inputs, use_cache=False).logits
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    network = torch.compile(nats) if settings["mode"] == "compiled" else nats

    def backward() -> tuple[Tensor, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        logits, loss = network(inputs, targets)
        loss.backward()
        return logits, loss

    def run() -> None:
        backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()

    def outputs() -> Arrays:
        logits, loss = backward()
        return {"logits": as_array(logits), "loss": as_array(loss), **adapters.gradients()}

    return Side(run, outputs)


class _Adapters:
    """The adapters of a PEFT model under our names: one array for all layers, and for queries, keys and values."""

    def __init__(self, model: Any) -> None:
        config = model.config
        self.layers = model.base_model.model.model.layers
        self.heads = config.num_key_value_heads, config.num_attention_heads // config.num_key_value_heads + 2
        self.head = config.hidden_size // config.num_attention_heads

    def set(self, given: Arrays) -> None:
        """Sets them from ours, [layers, D, rank] and [layers, rank, F]."""
        for matrix, names in MODULES.items():
            where = _place(matrix)
            a, b = given[f"{where}/lora_a"], given[f"{where}/lora_b"]
            for i, layer in enumerate(self.layers):
                parts = self._parted(b[i]) if len(names) > 1 else [b[i]]
                for name, part in zip(names, parts, strict=True):
                    module = layer.get_submodule(name)
                    with torch.no_grad():
                        module.lora_A["default"].weight.copy_(torch.tensor(a[i].T))
                        module.lora_B["default"].weight.copy_(torch.tensor(part.T))

    def gradients(self) -> Arrays:
        """The gradients under our names and in our shapes."""
        found: Arrays = {}
        for matrix, names in MODULES.items():
            where = f"gradient/{_place(matrix)}"
            modules = [[layer.get_submodule(name) for name in names] for layer in self.layers]
            found[f"{where}/lora_a"] = np.stack(
                [sum(as_array(one.lora_A["default"].weight.grad).T for one in group) for group in modules]
            )
            of_b = [[as_array(one.lora_B["default"].weight.grad).T for one in group] for group in modules]
            found[f"{where}/lora_b"] = np.stack([self._joined(parts) if len(parts) > 1 else parts[0] for parts in of_b])
        return found

    def _parted(self, b: np.ndarray) -> list[np.ndarray]:
        """[rank, F] of queries, keys and values by key/value head -> one array for each."""
        whole = b.reshape(b.shape[0], *self.heads, self.head)
        return [
            part.reshape(b.shape[0], -1) for part in np.split(whole, [self.heads[1] - 2, self.heads[1] - 1], axis=2)
        ]

    def _joined(self, parts: list[np.ndarray]) -> np.ndarray:
        """The inverse of `_parted`."""
        rank = parts[0].shape[0]
        apart = [part.reshape(rank, self.heads[0], -1, self.head) for part in parts]
        return np.concatenate(apart, axis=2).reshape(rank, -1)


# ---- sampling


def _sampling(given: Arrays, settings: dict[str, Any], sampled: bool) -> Side:
    model, prompt = _model(), torch.tensor(given["prompt"], device=DEVICE).long()
    mask = torch.ones_like(prompt)
    options = {"cache_implementation": "static"} if settings["mode"] == "static cache" else {}

    @torch.inference_mode()
    def write(sampled: bool) -> Tensor:
        # The end of text is excluded, as on our side.
        model.generation_config.eos_token_id = None
        return model.generate(
            prompt,
            attention_mask=mask,
            do_sample=sampled,
            top_k=0,
            max_new_tokens=MODEL_TOKENS,
            use_cache=True,
            **options,
        )[:, 1:]

    def outputs() -> Arrays:
        with torch.inference_mode():
            drawn = torch.tensor(given["drawn"], device=DEVICE).long()
            logits = model(torch.cat([prompt, drawn[:, :-1]], dim=1)).logits
            log_probs = torch.log_softmax(logits, dim=-1).gather(2, drawn[..., None])[..., 0]
        return {"greedy": as_array(write(False)), "log_probs": as_array(log_probs)}

    return Side(lambda: write(sampled), outputs)  # type: ignore[arg-type]


def _loading(given: Arrays, settings: dict[str, Any]) -> Side:
    script = Path(__file__).parent / "first_token.py"

    def run() -> str:
        command = [sys.executable, str(script), str(MODEL), PROMPT]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return Side(run, lambda: {"first": as_bytes(run())})  # type: ignore[arg-type]


_SIDES: dict[str, Callable[[Arrays, dict[str, Any]], Side]] = {
    "smollm_lora": _lora,
    "smollm_sampling": lambda given, settings: _sampling(given, settings, True),
    "smollm_greedy": lambda given, settings: _sampling(given, settings, False),
    "smollm_loading": _loading,
}
