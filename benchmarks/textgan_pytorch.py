"""SeqGAN's generator step beside TextGAN-PyTorch as it ships: https://github.com/williamSYSU/TextGAN-PyTorch.

    git clone https://github.com/williamSYSU/TextGAN-PyTorch && git -C TextGAN-PyTorch checkout 7ff8909
    python -m benchmarks.textgan_pytorch TextGAN-PyTorch

Both sample 64 texts of 20 tokens from an LSTM 32/32 over 5,000 words, score 16 continuations of every prefix by
SeqGAN's CNN (1,720 and 1,728 filters), and update the generator; the discriminator learns nothing. The rival runs its
own classes in the order of its `adv_train_generator`, without the metrics that follow a step there. Each side is a
process of its own; they take turns. The rival is run with PyTorch's default number of threads and with one.
"""

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.__main__ import ENVIRONMENT, RIVAL_ENVIRONMENT

ROOT = Path(__file__).parents[1]
WIDTH, VOCABULARY, LENGTH, ROWS, ROLLOUTS, EMBEDDING = 32, 5_000, 20, 64, 16, 64
RATE = 0.01  # of its run_seqgan.py
DEFAULT, ONE = "TextGAN-PyTorch", "TextGAN-PyTorch, 1 thread"


def ours() -> Callable[[], None]:
    import jax

    from benchmarks.ours import build_parts
    from benchmarks.sides import config_of
    from gptgan_jax.training.phases import build_gan, step_of

    config = config_of("seqgan")
    frozen = dataclasses.replace(config.adversarial, freeze_discriminator=True)
    parts = build_parts(dataclasses.replace(config, adversarial=frozen))
    gan = build_gan(parts.config, "adversarial", parts.generator, parts.discriminator)
    learn = jax.jit(step_of(gan, "adversarial"), donate_argnums=0)
    state = gan.init(jax.random.key(0), parts.batch)

    def step() -> None:
        nonlocal state
        state, metrics = learn(state, parts.batch)
        jax.block_until_ready((state, metrics))

    return step


def rival(checkout: Path) -> Callable[[], None]:
    import torch

    torch.cuda.set_device = lambda device: None  # its config.py selects a GPU, also where there is none
    sys.path.insert(0, str(checkout))
    os.chdir(checkout)
    import config as settings

    settings.CUDA, settings.gen_init, settings.dis_init = False, "normal", "uniform"  # as its run_seqgan.py sets them
    from models.SeqGAN_D import SeqGAN_D
    from models.SeqGAN_G import SeqGAN_G
    from utils.data_loader import GenDataIter
    from utils.rollout import ROLLOUT

    torch.manual_seed(0)
    generator = SeqGAN_G(WIDTH, WIDTH, VOCABULARY, LENGTH, settings.padding_idx)
    discriminator = SeqGAN_D(EMBEDDING, VOCABULARY, settings.padding_idx)
    optimizer = torch.optim.Adam(generator.parameters(), lr=RATE)

    def step() -> None:
        rollouts = ROLLOUT(generator, gpu=False)
        inputs, targets = GenDataIter.prepare(generator.sample(ROWS, ROWS), gpu=False)
        rewards = rollouts.get_reward(targets, ROLLOUTS, discriminator)
        optimizer.zero_grad()
        generator.batchPGLoss(inputs, targets, rewards).backward()
        optimizer.step()

    return step


def serve(step: Callable[[], None]) -> None:
    """A side in its process: runs a step for each line of standard input and prints its seconds."""
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)


def asked(process: "subprocess.Popen[str]") -> float:
    """The seconds of one more step of a side."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("step\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkout", type=Path, help="of TextGAN-PyTorch")
    parser.add_argument(
        "--rounds", type=int, default=3, help="steps of the rival in each setting; ours takes five times as many"
    )
    parser.add_argument("--serve", choices=("ours", "rival"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(ours() if options.serve == "ours" else rival(options.checkout.absolute()))
        return
    environments = {"gptgan_jax": {}, DEFAULT: RIVAL_ENVIRONMENT, ONE: RIVAL_ENVIRONMENT | {"OMP_NUM_THREADS": "1"}}
    command = [sys.executable, "-m", "benchmarks.textgan_pytorch", str(options.checkout.absolute()), "--serve"]
    sides = {
        name: subprocess.Popen(
            [*command, "rival" if more else "ours"],
            env=os.environ | ENVIRONMENT | more,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, more in environments.items()
    }
    first = {name: asked(process) for name, process in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, process in sides.items():
            seconds[name] += [asked(process) for _ in range(5 if name == "gptgan_jax" else 1)]
    for process in sides.values():
        process.communicate()
    print("| side | a generator step (s) | least to most | first step, with compilation (s) | ratio |")
    print("|---|---:|---:|---:|---:|")
    mine = statistics.median(seconds["gptgan_jax"])
    for name, found in seconds.items():
        middle = statistics.median(found)
        spread = f"{min(found):.2f} to {max(found):.2f}"
        print(f"| {name} | {middle:.2f} | {spread} | {first[name]:.1f} | {middle / mine:.0f} |")


if __name__ == "__main__":
    main()
