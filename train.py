"""`python train.py CONFIG [--key.path value ...]`: the same as `gptgan train CONFIG ...`."""

import sys

from gptgan_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
