"""Before JAX is imported: one place for compiled programs, shared by all tests and by the processes that they start."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # for `tiny`, whatever pytest's import mode

pytest_plugins = ["costs"]

# Traced programs are many long-lived objects: to look through them as often as Python does is a tenth of the time.
gc.set_threshold(100_000, 50, 100)

# The same examples every time: a test that fails here fails everywhere.
settings.register_profile("stable", derandomize=True, deadline=None)
settings.load_profile("stable")

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "gptgan_jax_tests_xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Half of the time would go into compiling: without XLA's costlier passes a step compiles about four times as fast, and
# runs as fast at the sizes of tests. With XLA_FLAGS set, empty even, that holds: XLA_FLAGS="" make test compiles
# as a user's programs are.
_QUICK = ["--xla_backend_optimization_level=0"]
if metadata.version("jaxlib").startswith("0.10."):  # jaxlib 0.12 ends the process at a flag that it has no more
    _QUICK += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
os.environ.setdefault("XLA_FLAGS", " ".join(_QUICK))
# A tenth of tracing goes into where in the source each operation comes from, and into names of modules for profiles.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
os.environ.setdefault("FLAX_PROFILE", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A suite that was begun in the background ignores Ctrl-C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Judges that an evaluation trains are kept in the user's cache; not those of tests.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="gptgan_jax_tests_cache")


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # before pytest itself leaves out what is marked
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test's cases, those beyond `cases(n)` are exhaustive; costly tests are marked in costs.py."""
    seen: Counter[str] = Counter()
    for item in items:
        if (mark := item.get_closest_marker("cases")) is not None:
            test = item.nodeid.partition("[")[0]
            seen[test] += 1
            if seen[test] > mark.args[0]:
                item.add_marker("exhaustive")
