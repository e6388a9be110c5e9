"""SeqGAN's generator update as TextGAN-PyTorch ships it, against our whole step at the same shapes.

    git clone https://github.com/williamSYSU/TextGAN-PyTorch    # measured: commit 7ff8909
    python -m benchmarks.textgan_pytorch TextGAN-PyTorch

The toolkit's own classes run with the settings of its run/run_seqgan.py: an LSTM of 32 / 32 over 5,000 words, 64 texts
of 20 tokens, 16 rollouts at every position, scored by the CNN of 1,720 filters. Its step here is the body of its
`adv_train_generator`: samples, rewards by rollouts, the update of the generator. Ours (benchmarks/cases/seqgan.yaml)
updates the discriminator as well; its case in `python -m benchmarks` has a rival in PyTorch written for speed.
The toolkit's rewards are means over other texts (findings/textgan-pytorch-rewards-of-other-texts.sh); right ones would
cost as much.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.__main__ import RIVAL_ENVIRONMENT, child, run_python

CASE = "seqgan"
OUR_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("toolkit", type=Path, help="a clone of TextGAN-PyTorch")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each side, in turn")
    parser.add_argument("--repeats", type=int, default=1, help="steps of the toolkit in a process")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="the toolkit's; the fastest is compared")
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)  # the toolkit in this process, with so many threads
    options = parser.parse_args()
    if options.side is not None:
        print(json.dumps(toolkit_seconds(options.toolkit, options.side, options.repeats)))
        return
    if not (options.toolkit / "instructor" / "oracle_data" / "seqgan_instructor.py").is_file():
        parser.exit(2, f"textgan_pytorch: {options.toolkit} is no clone of TextGAN-PyTorch\n")
    ours: list[float] = []
    theirs: dict[int, list[float]] = {threads: [] for threads in options.threads}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            ours += child("ours", CASE, "time", Path(folder), {"seconds": OUR_SECONDS})["seconds"]
            for threads, seconds in theirs.items():
                arguments = [str(options.toolkit.absolute()), "--side", str(threads), "--repeats", str(options.repeats)]
                last = run_python("benchmarks.textgan_pytorch", *arguments, environment=RIVAL_ENVIRONMENT)
                seconds += json.loads(last)
    print("| step | median | least to most | ratio |\n|---|---:|---:|---:|")
    print(f"| ours, both players | {_row(ours)} | – |")
    for threads, seconds in theirs.items():
        ratio = statistics.median(seconds) / statistics.median(ours)
        print(f"| TextGAN-PyTorch, the generator alone, {threads} thread(s) | {_row(seconds)} | {ratio:.0f} |")


def toolkit_seconds(toolkit: Path, threads: int, repeats: int) -> list[float]:
    """Seconds of each update of the generator by the toolkit's own classes, after one with a single rollout."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.cuda.set_device = lambda device: None  # the toolkit selects a GPU on import, even where there is none
    os.chdir(toolkit)
    sys.path.insert(0, str(toolkit))
    # Modules of the toolkit.
    import config as settings
    from models.SeqGAN_D import SeqGAN_D
    from models.SeqGAN_G import SeqGAN_G
    from utils.data_loader import GenDataIter
    from utils.rollout import ROLLOUT

    settings.CUDA, settings.gen_init, settings.dis_init = False, "normal", "uniform"
    shape = settings.vocab_size, settings.max_seq_len, settings.batch_size
    assert shape == (5000, 20, 64), shape
    generator = SeqGAN_G(32, 32, settings.vocab_size, settings.max_seq_len, settings.padding_idx, gpu=False)
    discriminator = SeqGAN_D(64, settings.vocab_size, settings.padding_idx, gpu=False)
    optimizer = torch.optim.Adam(generator.parameters(), lr=0.01)

    def step(rollouts: int) -> None:
        tokens, targets = GenDataIter.prepare(generator.sample(settings.batch_size, settings.batch_size), gpu=False)
        rewards = ROLLOUT(generator, False).get_reward(targets, rollouts, discriminator)
        loss = generator.batchPGLoss(tokens, targets, rewards)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(generator.parameters(), settings.clip_norm)
        optimizer.step()

    step(1)
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        step(16)
        seconds.append(time.perf_counter() - begin)
    return seconds


def _row(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s | {min(seconds):.2f} to {max(seconds):.2f} s"


if __name__ == "__main__":
    main()
