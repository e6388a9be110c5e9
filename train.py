"""`python train.py CONFIG [--key.path value ...]`: the same as `gptgan train CONFIG ...`, in memory of large pages."""

import os
import sys

if __name__ == "__main__":
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        # A step on a CPU takes a quarter less time (docs/performance.md). glibc reads this when a program starts.
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    from gptgan_jax.cli import main

    sys.argv.insert(1, "train")
    sys.exit(main())
