"""The other side of every case: PyTorch as a good engineer would write it.

Fused AdamW, gradients set to None, `inference_mode` for what is written and judged, one forward of the discriminator on
real and generated text, whose scores are both its loss and the generator's reward (ours has no dropout here either, so
the results are equal), draws by inverse CDF, which is many times faster than `torch.multinomial` on a CPU.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.sides import (
    CASES,
    FOLDER,
    PROTOCOL,
    PROTOCOL_DISCRIMINATOR_UPDATES,
    PROTOCOL_SHARE,
    ROLLOUTS_COMPARED,
    SAMPLING_TOKENS,
    VOCABULARY_SIZE,
    Arrays,
    Side,
)
from benchmarks.torch_networks import Cnn, Gpt, GptJudge, Lstm, Trunk, as_torch, load_weights, translated
from gptgan_jax.config import Config
from gptgan_jax.config_files import load_config
from gptgan_jax.models.discriminators import CnnConfig
from gptgan_jax.models.lstm import LstmConfig


class _Parts(NamedTuple):
    config: Config
    given: Arrays
    settings: dict[str, Any]

    @property
    def compiled(self) -> bool:
        return self.settings["mode"] == "compiled"

    def text(self, name: str = "text") -> Tensor:
        return torch.tensor(self.given[name]).long()

    def generator(self) -> Any:
        config = self.config.generator
        if isinstance(config, LstmConfig):
            module: nn.Module = Lstm(VOCABULARY_SIZE, config.embedding, config.hidden)
        else:
            module = Gpt(self.trunk())
        load_weights(module, self.given, "generator/")
        return module

    def discriminator(self) -> Any:
        config = self.config.discriminator
        if isinstance(config, CnnConfig):
            module: nn.Module = Cnn(VOCABULARY_SIZE, config.embedding, config.widths, config.filters)
        else:
            module = GptJudge(self.trunk())
        load_weights(module, self.given, "discriminator/")
        return module

    def trunk(self) -> Trunk:
        config = self.config.generator
        assert not isinstance(config, LstmConfig)
        return Trunk(config.layers, config.width, config.heads, config.max_positions, VOCABULARY_SIZE)


def side(case: str, given: Arrays, settings: dict[str, Any]) -> Side:
    """The rival of a case at one of its settings, from what our side gave."""
    torch.manual_seed(0)
    return _SIDES[case](_Parts(load_config(FOLDER / CASES[case].config), given, settings))


def _optimizer(module: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr=learning_rate, weight_decay=0.0, fused=True)


def _named_gradients(module: nn.Module, prefix: str) -> Arrays:
    return {prefix + name: x.grad.numpy() for name, x in module.named_parameters() if x.grad is not None}


def _started(text: Tensor) -> Tensor:
    """With the token that starts every text, in place of the last one or before all of them."""
    return F.pad(text, (1, 0), value=0)


def draw(logits: Tensor, how: str = "inverse CDF") -> Tensor:
    """One token a row, [B, V] -> [B, 1]."""
    if how == "multinomial":
        return torch.multinomial(torch.softmax(logits, dim=-1), 1)
    cumulative = torch.cumsum(torch.softmax(logits, dim=-1), dim=-1)
    uniform = torch.rand(logits.shape[0], 1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, uniform).clamp_(max=logits.shape[1] - 1)


# ---- cases


def _likelihood(parts: _Parts) -> Side:
    model, text = parts.generator(), parts.text()
    inputs, targets = _started(text)[:, :-1], text.flatten()
    optimizer = _optimizer(model, parts.config.likelihood.optimizer.learning_rate)
    network = torch.compile(model) if parts.compiled else model

    def backward() -> tuple[Tensor, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        logits = network(inputs)
        loss = F.cross_entropy(logits.flatten(0, 1), targets)
        loss.backward()
        return logits, loss

    def run() -> None:
        backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def outputs() -> Arrays:
        logits, loss = backward()
        found = {"logits": logits.detach().numpy(), "loss": loss.detach().numpy()}
        return found | _named_gradients(model, "gradient/")

    return Side(run, outputs, translate=lambda ours: translated(ours, {"gradient/": model}))


def _decoder(parts: _Parts, model: Gpt, rows: int, slots: int) -> Callable[[Tensor, int, Any], Tensor]:
    """(tokens [B], position, cache) -> logits [B, V] of the next token."""
    if not parts.compiled:
        return lambda tokens, position, cache: model.head(model.trunk.decode(tokens, cache, position))
    positions = [torch.tensor([i]) for i in range(slots)]
    step = torch.compile(
        lambda tokens, position, cache: model.head(model.trunk.decode_masked(tokens, cache, position)), dynamic=False
    )
    return lambda tokens, position, cache: step(tokens, positions[position], cache)


def _writer(parts: _Parts, model: Gpt, rows: int, length: int) -> Callable[..., tuple[Tensor, Tensor]]:
    """(prompt [B, 1], greedy or given tokens) -> tokens [B, T] and their log-probabilities where they are asked for."""
    decode = _decoder(parts, model, rows, length)
    how = parts.settings.get("draw", "inverse CDF")

    @torch.inference_mode()
    def write(prompt: Tensor, greedy: bool = False, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
        cache = model.trunk.cache(rows, length)
        token, written, log_probs = prompt, [], []
        for position in range(length):
            logits = decode(token[:, 0], position, cache)
            if known is not None:
                token = known[:, position : position + 1]
                log_probs.append(torch.log_softmax(logits, dim=-1).gather(1, token))
            else:
                token = logits.argmax(dim=1, keepdim=True) if greedy else draw(logits, how)
            written.append(token)
        return torch.cat(written, dim=1), torch.cat(log_probs, dim=1) if log_probs else torch.zeros(0)

    return write


def _sampling(parts: _Parts) -> Side:
    model, prompt = parts.generator(), parts.text("prompt")
    write = _writer(parts, model, prompt.shape[0], SAMPLING_TOKENS)

    def outputs() -> Arrays:
        greedy, _ = write(prompt, greedy=True)
        _, log_probs = write(prompt, known=parts.text("drawn"))
        return {"greedy": greedy.numpy(), "log_probs": log_probs.numpy()}

    return Side(lambda: write(prompt), outputs)  # type: ignore[arg-type, return-value]


def _generate(parts: _Parts) -> Side:
    """Hugging Face's `generate` on its own GPT-2 with our weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    ours = parts.generator()
    config = parts.config.generator
    assert not isinstance(config, LstmConfig)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY_SIZE,
            n_positions=config.max_positions,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            bos_token_id=0,
            eos_token_id=None,
            pad_token_id=0,
        )
    ).train(False)
    weights = {
        name.replace("trunk.", "transformer.")
        .replace("blocks.", "h.")
        .replace(".qkv.", ".attn.c_attn.")
        .replace(".out.", ".attn.c_proj.")
        .replace(".up.", ".mlp.c_fc.")
        .replace(".down.", ".mlp.c_proj."): torch.tensor(x)
        for name, x in as_torch(ours, {n.removeprefix("generator/"): x for n, x in parts.given.items()}).items()
    }
    # GPT-2 keeps its projections as [in, out].
    weights = {
        name: x.T.contiguous() if x.ndim == 2 and (".c_" in name or ".mlp." in name) else x
        for name, x in weights.items()
    }
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    model.load_state_dict(weights)
    prompt = parts.text("prompt")
    mask = torch.ones_like(prompt)

    @torch.inference_mode()
    def write(sampled: bool) -> Tensor:
        return model.generate(
            prompt, attention_mask=mask, do_sample=sampled, top_k=0, max_new_tokens=SAMPLING_TOKENS, use_cache=True
        )[:, 1:]

    def outputs() -> Arrays:
        with torch.inference_mode():
            drawn = parts.text("drawn")
            logits = model(torch.cat([prompt, drawn[:, :-1]], dim=1)).logits
            log_probs = torch.log_softmax(logits, dim=-1).gather(2, drawn[..., None])[..., 0]
        return {"greedy": write(False).numpy(), "log_probs": log_probs.numpy()}

    return Side(lambda: write(True), outputs)  # type: ignore[arg-type, return-value]


def _returns(rewards: Tensor, discount: float) -> Tensor:
    total, found = torch.zeros(rewards.shape[0]), []
    for t in reversed(range(rewards.shape[1])):
        total = rewards[:, t] + discount * total
        found.append(total)
    return torch.stack(found[::-1], dim=1)


def _adversarial(parts: _Parts) -> Side:
    generator, judge = parts.generator(), parts.discriminator()
    adversarial = parts.config.adversarial
    optimizers = [
        _optimizer(generator, adversarial.generator_optimizer.learning_rate),
        _optimizer(judge, adversarial.discriminator_optimizer.learning_rate),
    ]
    real = parts.text()
    rows, length = real.shape
    prompt = torch.zeros(rows, 1, dtype=torch.long)
    write = _writer(parts, generator, rows, length)
    discount = getattr(parts.config.objective.estimator, "discount", 1.0)
    network_g = torch.compile(generator) if parts.compiled else generator
    network_d = torch.compile(judge) if parts.compiled else judge
    baseline = {"total": 0.0, "weight": 0.0}

    def backward(fake: Tensor) -> Tensor:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        scores = network_d(_started(torch.cat([real, fake])))[:, 1:]
        loss = F.softplus(-scores[:rows]).mean() + F.softplus(scores[rows:]).mean()
        loss.backward()
        returns = _returns(2 * torch.sigmoid(scores[rows:].detach()) - 1, discount)
        expected = baseline["total"] / max(baseline["weight"], 1e-8)
        log_probs = -F.cross_entropy(
            network_g(_started(fake)[:, :-1]).flatten(0, 1), fake.flatten(), reduction="none"
        ).view(rows, length)
        (-((returns - expected) * log_probs).sum() / rows).backward()
        baseline["total"] = 0.9 * baseline["total"] + 0.1 * float(returns.mean())
        baseline["weight"] = 0.9 * baseline["weight"] + 0.1
        return loss

    def run() -> None:
        backward(write(prompt)[0].clone())
        for module, optimizer in zip((generator, judge), optimizers, strict=True):
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()

    def outputs() -> Arrays:
        loss = backward(parts.text("written"))
        return {
            "discriminator_loss": loss.detach().numpy(),
            **_named_gradients(judge, "discriminator_gradient/"),
            **_named_gradients(generator, "generator_gradient/"),
        }

    modules = {"discriminator_gradient/": judge, "generator_gradient/": generator}
    return Side(run, outputs, translate=lambda ours: translated(ours, modules))


def _seqgan(parts: _Parts, work: str = "step") -> Side:
    generator, judge = parts.generator(), parts.discriminator()
    adversarial, rollouts = parts.config.adversarial, parts.config.objective.estimator.rollouts  # type: ignore[union-attr]
    optimizers = [
        _optimizer(generator, adversarial.generator_optimizer.learning_rate),
        _optimizer(judge, adversarial.discriminator_optimizer.learning_rate),
    ]
    real = parts.text()
    rows, length = real.shape
    decode, whole = generator.decode, judge.whole
    if parts.compiled:
        decode, whole = torch.compile(decode), torch.compile(whole)

    def judged(tokens: Tensor) -> Tensor:
        return whole(_started(tokens))

    @torch.inference_mode()
    def write() -> Tensor:
        token, state, written = torch.zeros(rows, dtype=torch.long), generator.start(rows), []
        for _ in range(length):
            logits, state = decode(token, state)
            token = draw(logits)[:, 0]
            written.append(token)
        return torch.stack(written, dim=1)

    @torch.inference_mode()
    def values(texts: Tensor, count: int) -> Tensor:
        """[R, T]: the text is decoded once, and its states are copied for the continuations."""
        found = []
        _, state = decode(torch.zeros(rows, dtype=torch.long), generator.start(rows))
        for t in range(length - 1):
            logits, state = decode(texts[:, t], state)
            branch = tuple(x.repeat_interleave(count, dim=0) for x in state)
            token = draw(logits.repeat_interleave(count, dim=0))[:, 0]
            tail = [token]
            for _ in range(t + 2, length):
                following, branch = decode(token, branch)
                token = draw(following)[:, 0]
                tail.append(token)
            ends = torch.cat([texts[:, : t + 1].repeat_interleave(count, dim=0), torch.stack(tail, dim=1)], dim=1)
            found.append((2 * torch.sigmoid(judged(ends)) - 1).view(rows, count).mean(dim=1))
        found.append(2 * torch.sigmoid(judged(texts)) - 1)
        return torch.stack(found, dim=1)

    def discriminator_backward(fake: Tensor) -> Tensor:
        optimizers[1].zero_grad(set_to_none=True)
        scores = judged(torch.cat([real, fake]))
        loss = F.softplus(-scores[:rows]).mean() + F.softplus(scores[rows:]).mean()
        loss.backward()
        return loss

    def learn(player: int) -> None:
        nn.utils.clip_grad_norm_((generator, judge)[player].parameters(), (5.0, 1.0)[player])
        optimizers[player].step()

    def nats_of(text: Tensor) -> Tensor:
        optimizers[0].zero_grad(set_to_none=True)
        logits = generator(_started(text)[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), text.flatten(), reduction="none").view(rows, length)

    def run() -> None:
        fake = write().clone()
        rewards = values(fake, rollouts).clone()
        discriminator_backward(fake)
        ((rewards * nats_of(fake)).sum() / rows).backward()
        learn(0)
        learn(1)

    def discriminator_update() -> None:
        discriminator_backward(write().clone())
        learn(1)

    def protocol() -> None:
        for _ in range(PROTOCOL["likelihood"] // PROTOCOL_SHARE):
            nats_of(real).mean().backward()
            learn(0)
        for _ in range(PROTOCOL["warmup"] // PROTOCOL_SHARE):
            discriminator_update()
        for _ in range(PROTOCOL["adversarial"] // PROTOCOL_SHARE):
            run()
            for _ in range(PROTOCOL_DISCRIMINATOR_UPDATES - 1):
                discriminator_update()

    def outputs() -> Arrays:
        fake = parts.text("written")
        loss = discriminator_backward(fake)
        with torch.no_grad():
            logits = generator(_started(fake)[:, :-1])
        return {
            "discriminator_loss": loss.detach().numpy(),
            "logits": logits.numpy(),
            "values~": values(fake, ROLLOUTS_COMPARED).numpy(),
            **_named_gradients(judge, "discriminator_gradient/"),
        }

    translate = lambda ours: translated(ours, {"discriminator_gradient/": judge})  # noqa: E731
    works = {"step": run, "discriminator": discriminator_update, "protocol": protocol}
    return Side(works[work], outputs, translate=translate)


_SIDES: dict[str, Callable[[_Parts], Side]] = {
    "likelihood": _likelihood,
    "sampling": _sampling,
    "generate": _generate,
    "adversarial_transformer": _adversarial,
    "adversarial_cnn": _adversarial,
    "seqgan": _seqgan,
    "discriminator": lambda parts: _seqgan(parts, "discriminator"),
    "protocol": lambda parts: _seqgan(parts, "protocol"),
}
