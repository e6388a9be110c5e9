"""`python -m gptgan_jax` is `gptgan`."""

import sys

from gptgan_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
