"""The process of one run of a study: `python -m gptgan_jax.studies.child`, with the run's config on standard input.

The input stays open while the study lives. When it is closed, for whatever reason, the run is saved and stopped.
"""

import os
import signal
import sys
import threading
from typing import TextIO

from gptgan_jax.errors import UserError
from gptgan_jax.system.interruptions import as_process
from gptgan_jax.system.native_log import native_output_apart
from gptgan_jax.system.terminal import configure_jax, say

END = "...\n"
"""The line after the config: the end of a YAML document."""


def main() -> int:
    """Trains and sweeps the run; returns 0 if done, 1 if failed, 2 if refused, 128 + the signal if stopped."""
    lines = []
    for line in sys.stdin:
        if line == END:
            break
        lines.append(line)
    threading.Thread(target=_follow, args=(sys.stdin,), name="study", daemon=True).start()
    return _run("".join(lines))


def _run(text: str) -> int:
    import yaml

    from gptgan_jax.config.checking import config_from
    from gptgan_jax.runs.folder import RunFolder
    from gptgan_jax.training.full_disk import NotWritten
    from gptgan_jax.training.signals import Interrupted, NotFinite
    from gptgan_jax.workflows.run import is_finished, judge_run, train_run

    configure_jax()
    try:
        config = config_from(yaml.safe_load(text))
        folder = RunFolder.of(config)
        judge_run(folder if is_finished(folder, config) else train_run(config, say), say, sweep=True)
    except Interrupted as interruption:
        say(str(interruption))
        return 128 + interruption.signal
    except (NotFinite, NotWritten) as error:
        say(f"gptgan: {error}")
        return 1
    except UserError as error:
        for line in error.lines:
            say(f"gptgan: {line}")
        return 2
    return 0


def _follow(study: TextIO) -> None:
    """Stops the run, as by SIGTERM, when the study is gone."""
    study.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    with native_output_apart():
        status = as_process(main)
    sys.exit(status)
