"""Parts that all cases of the rival share: device, precision, networks, text and optimiser.

It runs on a CUDA device if PyTorch finds one, else on the processor. In cases with bfloat16 products, training passes
run under autocast, and texts are sampled with a copy of the weights in bfloat16.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.machine import resident_peak
from benchmarks.sides import GRAPHS, Arrays
from benchmarks.torch_networks import Cnn, Gpt, GptJudge, Lstm, Trunk, load_weights
from gptgan_jax.config import Config
from gptgan_jax.models.discriminator_networks import CnnConfig
from gptgan_jax.models.lstm import LstmConfig

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

Module = TypeVar("Module", bound=nn.Module)


def set_precision(exact: bool) -> None:
    """Sets float32 products to full precision, or on a CUDA device to TF32, JAX's default there."""
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact


def finished(run: Callable[[], Any]) -> Callable[[], None]:
    """The same work, followed by waiting for its end."""

    def whole() -> None:
        run()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    return whole


def peak_bytes() -> int:
    """The peak memory of this process: of tensors on the CUDA device, or main memory."""
    return torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else resident_peak()


def as_array(x: Tensor) -> np.ndarray:
    """A tensor as NumPy; bfloat16, which NumPy lacks, is converted."""
    x = x.detach()
    return (x.float() if x.is_floating_point() else x).cpu().numpy()


class Parts(NamedTuple):
    """A case with one of the rival's settings.

    Attributes:
        config: of the case.
        given: text and weights from our side.
        settings: of the rival.
    """

    config: Config
    given: Arrays
    settings: dict[str, Any]

    @property
    def vocab_size(self) -> int:
        assert self.config.vocab_size is not None
        return self.config.vocab_size

    @property
    def bfloat16(self) -> bool:
        return self.config.generator.dtype == "bfloat16"

    @property
    def compiles(self) -> bool:
        return self.settings["mode"] in ("compiled", GRAPHS)

    def compiled(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """The same function, compiled if the settings say so."""
        if not self.compiles:
            return function
        mode = "reduce-overhead" if self.settings["mode"] == GRAPHS else None
        return torch.compile(function, mode=mode, **options)

    def autocast(self) -> torch.autocast:
        """Products in the case's dtype."""
        return torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.bfloat16)

    def writing(self, model: Module) -> Module:
        """The model to sample with: itself, or a copy in bfloat16, which `refresh` updates."""
        return copy.deepcopy(model).requires_grad_(False).bfloat16() if self.bfloat16 else model

    def text(self, name: str = "text") -> Tensor:
        return torch.tensor(self.given[name], device=DEVICE).long()

    def generator(self) -> Any:
        config = self.config.generator
        if isinstance(config, LstmConfig):
            module: nn.Module = Lstm(self.vocab_size, config.embedding, config.hidden)
        else:
            module = Gpt(self._trunk())
        load_weights(module, self.given, "generator/")
        return module.to(DEVICE)

    def discriminator(self) -> Any:
        config = self.config.discriminator
        if isinstance(config, CnnConfig):
            module: nn.Module = Cnn(self.vocab_size, config.embedding, config.widths, config.filters)
        else:
            module = GptJudge(self._trunk())
        load_weights(module, self.given, "discriminator/")
        return module.to(DEVICE)

    def _trunk(self) -> Trunk:
        config = self.config.generator
        assert not isinstance(config, LstmConfig)
        return Trunk(config.layers, config.width, config.heads, config.max_positions, self.vocab_size)


def refresh(copied: nn.Module, model: nn.Module) -> None:
    """Updates a copy of a model's weights."""
    if copied is not model:
        for x, y in zip(copied.parameters(), model.parameters(), strict=True):
            x.copy_(y)


def optimizer_of(module: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr=learning_rate, weight_decay=0.0, fused=True)


def named_gradients(module: nn.Module, prefix: str) -> Arrays:
    return {prefix + name: as_array(x.grad) for name, x in module.named_parameters() if x.grad is not None}


def started(text: Tensor) -> Tensor:
    """The text with the start token in front."""
    return F.pad(text, (1, 0), value=0)


def draw(logits: Tensor, how: str = "inverse CDF") -> Tensor:
    """Draws one token per row, [B, V] -> [B, 1]."""
    logits = logits.float()
    if how == "multinomial":
        return torch.multinomial(torch.softmax(logits, dim=-1), 1)
    cumulative = torch.cumsum(torch.softmax(logits, dim=-1), dim=-1)
    uniform = torch.rand(logits.shape[0], 1, device=logits.device) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, uniform).clamp_(max=logits.shape[1] - 1)
