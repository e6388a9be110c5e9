"""The other side of every case: well-optimised PyTorch.

It uses fused AdamW, gradients set to None, `inference_mode` for sampling and scoring, one forward pass of the
discriminator on real and generated text, whose scores give both its loss and the generator's reward (ours has no
dropout here either, so the results are equal), and draws by inverse CDF, which is many times faster than
`torch.multinomial` on a CPU.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.sides import (
    GRAPHS,
    PROTOCOL,
    PROTOCOL_DISCRIMINATOR_UPDATES,
    PROTOCOL_SHARE,
    ROLLOUTS_COMPARED,
    SAMPLING_TOKENS,
    Arrays,
    Side,
    config_of,
)
from benchmarks.torch_networks import Gpt, as_torch, translated
from benchmarks.torch_parts import (
    DEVICE,
    Parts,
    as_array,
    draw,
    finished,
    named_gradients,
    optimizer_of,
    refresh,
    started,
)
from gptgan_jax.config import Config
from gptgan_jax.models.lstm import LstmConfig


def side(case: str, given: Arrays, settings: dict[str, Any], config: Config | None = None) -> Side:
    """The rival of a case with one of its settings, from our side's inputs; `config` replaces the case's."""
    torch.manual_seed(0)
    made = _SIDES[case](Parts(config or config_of(case), given, settings))
    return made._replace(run=finished(made.run))


# ---- cases


def _likelihood(parts: Parts) -> Side:
    model, text = parts.generator(), parts.text()
    inputs, targets = started(text)[:, :-1], text.flatten()
    optimizer = optimizer_of(model, parts.config.likelihood.optimizer.learning_rate)

    def judged(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(inputs)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets)

    network = parts.compiled(judged)

    def backward() -> tuple[Tensor, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        with parts.autocast():
            logits, loss = network(inputs, targets)
        loss.backward()
        return logits, loss

    def run() -> None:
        backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def outputs() -> Arrays:
        logits, loss = backward()
        found = {"logits": as_array(logits), "loss": as_array(loss)}
        return found | named_gradients(model, "gradient/")

    return Side(run, outputs, translate=lambda ours: translated(ours, {"gradient/": model}))


def _decoder(parts: Parts, model: Gpt, slots: int) -> Callable[[Tensor, int, Any], Tensor]:
    """(tokens [B], position, cache) -> logits [B, V] of the next token."""
    if not parts.compiles:
        return lambda tokens, position, cache: model.head(model.trunk.decode(tokens, cache, position))
    positions = list(torch.arange(slots, device=DEVICE)[:, None])
    step = parts.compiled(
        lambda tokens, position, cache: model.head(model.trunk.decode_masked(tokens, cache, position)), dynamic=False
    )
    return lambda tokens, position, cache: step(tokens, positions[position], cache)


def _writer(parts: Parts, model: Gpt, rows: int, length: int) -> Callable[..., tuple[Tensor, Tensor]]:
    """(prompt [B, 1], greedy or given tokens) -> tokens [B, T] and, if requested, their log-probabilities."""
    writing = parts.writing(model)
    decode = _decoder(parts, writing, length)
    cache = writing.trunk.cache(rows, length)
    if parts.settings["mode"] == GRAPHS:
        for x in itertools.chain(*cache):
            torch._dynamo.mark_static_address(x)  # written to in place
    how = parts.settings.get("draw", "inverse CDF")

    @torch.inference_mode()
    def write(prompt: Tensor, greedy: bool = False, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
        refresh(writing, model)
        token, written, log_probs = prompt, [], []
        for position in range(length):
            logits = decode(token[:, 0], position, cache)
            if known is not None:
                token = known[:, position : position + 1]
                log_probs.append(torch.log_softmax(logits.float(), dim=-1).gather(1, token))
            else:
                token = logits.argmax(dim=1, keepdim=True) if greedy else draw(logits, how)
            written.append(token)
        return torch.cat(written, dim=1), torch.cat(log_probs, dim=1) if log_probs else torch.zeros(0)

    return write


def _sampling(parts: Parts) -> Side:
    model, prompt = parts.generator(), parts.text("prompt")
    write = _writer(parts, model, prompt.shape[0], SAMPLING_TOKENS)

    def outputs() -> Arrays:
        greedy, _ = write(prompt, greedy=True)
        _, log_probs = write(prompt, known=parts.text("drawn"))
        return {"greedy": as_array(greedy), "log_probs": as_array(log_probs)}

    return Side(lambda: write(prompt), outputs)  # type: ignore[arg-type]


def _generate(parts: Parts) -> Side:
    """Hugging Face's `generate` on its own GPT-2 with our weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    ours = parts.generator()
    config = parts.config.generator
    assert not isinstance(config, LstmConfig)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=parts.vocab_size,
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
    model.to(DEVICE)
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
        return {"greedy": as_array(write(False)), "log_probs": as_array(log_probs)}

    return Side(lambda: write(True), outputs)  # type: ignore[arg-type]


def _discounts(length: int, discount: float) -> Tensor:
    """The weight discount^(s - t) of a reward at s in the return at t: [T, T]. One product instead of a loop over T."""
    ahead = torch.arange(length, device=DEVICE)[:, None] - torch.arange(length, device=DEVICE)
    return torch.tril(discount ** ahead.clamp(min=0).float())


def _adversarial(parts: Parts) -> Side:
    generator, judge = parts.generator(), parts.discriminator()
    adversarial = parts.config.adversarial
    optimizers = [
        optimizer_of(generator, adversarial.generator_optimizer.learning_rate),
        optimizer_of(judge, adversarial.discriminator_optimizer.learning_rate),
    ]
    real = parts.text()
    rows, length = real.shape
    prompt = torch.zeros(rows, 1, dtype=torch.long, device=DEVICE)
    write = _writer(parts, generator, rows, length)
    discounts = _discounts(length, getattr(parts.config.objective.estimator, "discount", 1.0))
    baseline: dict[str, Any] = {"total": 0.0, "weight": 0.0}

    def nats_of(text: Tensor) -> Tensor:
        logits = generator(started(text)[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), text.flatten(), reduction="none").view(rows, length)

    network_g, network_d = parts.compiled(nats_of), parts.compiled(judge)

    def backward(fake: Tensor) -> Tensor:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        with parts.autocast():
            scores = network_d(started(torch.cat([real, fake])))[:, 1:].float()
        loss = F.softplus(-scores[:rows]).mean() + F.softplus(scores[rows:]).mean()
        loss.backward()
        returns = (2 * torch.sigmoid(scores[rows:].detach()) - 1) @ discounts
        expected = baseline["total"] / max(baseline["weight"], 1e-8)
        with parts.autocast():
            nats = network_g(fake)
        (((returns - expected) * nats).sum() / rows).backward()
        baseline["total"] = 0.9 * baseline["total"] + 0.1 * returns.mean()
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
            "discriminator_loss": as_array(loss),
            **named_gradients(judge, "discriminator_gradient/"),
            **named_gradients(generator, "generator_gradient/"),
        }

    modules = {"discriminator_gradient/": judge, "generator_gradient/": generator}
    return Side(run, outputs, translate=lambda ours: translated(ours, modules))


def _seqgan(parts: Parts, work: str = "step") -> Side:
    generator, judge = parts.generator(), parts.discriminator()
    adversarial, rollouts = parts.config.adversarial, parts.config.objective.estimator.rollouts  # type: ignore[union-attr]
    optimizers = [
        optimizer_of(generator, adversarial.generator_optimizer.learning_rate),
        optimizer_of(judge, adversarial.discriminator_optimizer.learning_rate),
    ]
    real = parts.text()
    rows, length = real.shape
    decode, whole = parts.compiled(generator.decode), parts.compiled(judge.whole)

    def judged(tokens: Tensor) -> Tensor:
        return whole(started(tokens))

    @torch.inference_mode()
    def write() -> Tensor:
        token, state, written = torch.zeros(rows, dtype=torch.long, device=DEVICE), generator.start(rows), []
        for _ in range(length):
            logits, state = decode(token, state)
            token = draw(logits)[:, 0]
            written.append(token)
        return torch.stack(written, dim=1)

    @torch.inference_mode()
    def values(texts: Tensor, count: int) -> Tensor:
        """[R, T]: the text is decoded once, and its states are copied for the continuations."""
        found = []
        _, state = decode(torch.zeros(rows, dtype=torch.long, device=DEVICE), generator.start(rows))
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
        logits = generator(started(text)[:, :-1])
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
            logits = generator(started(fake)[:, :-1])
        return {
            "discriminator_loss": as_array(loss),
            "logits": as_array(logits),
            "values~": as_array(values(fake, ROLLOUTS_COMPARED)),
            **named_gradients(judge, "discriminator_gradient/"),
        }

    translate = lambda ours: translated(ours, {"discriminator_gradient/": judge})  # noqa: E731
    works = {"step": run, "discriminator": discriminator_update, "protocol": protocol}
    return Side(works[work], outputs, translate=translate)


_SIDES: dict[str, Callable[[Parts], Side]] = {
    "likelihood": _likelihood,
    "sampling": _sampling,
    "generate": _generate,
    "adversarial_transformer": _adversarial,
    "adversarial_cnn": _adversarial,
    "gpt2_likelihood": _likelihood,
    "gpt2_adversarial": _adversarial,
    "seqgan": _seqgan,
    "discriminator": lambda parts: _seqgan(parts, "discriminator"),
    "protocol": lambda parts: _seqgan(parts, "protocol"),
}
