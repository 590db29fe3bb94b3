"""What a step frees is there for the next one, where glibc's malloc looks after memory."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from sktangent import TangentPropRegressor
from sktangent.training import epochs

STEP = """
import resource, torch
{before}

def resident():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * resource.getpagesize() / 2**20

torch.ones(1)
start = resident()
blocks = [torch.ones(2**21) for _ in range(6)]  # of 8 MiB each
del blocks
print(resident() - start)
"""
LESSON = "from sktangent._speed.allocation import keep_freed_memory; keep_freed_memory()"


def kept_by_the_process(before):
    """Tell how many MiB of a step's 48 stay with the process."""
    tuned = ("MALLOC_", "GLIBC_", "LD_PRELOAD")
    environment = {k: value for k, value in os.environ.items() if not k.startswith(tuned)}
    environment["SKTANGENT_SHORTCUTS"] = "1"
    command = [sys.executable, "-c", STEP.format(before=before)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(answer.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's malloc")
def test_what_is_freed_stays_with_the_process():
    assert kept_by_the_process("") < 24
    assert kept_by_the_process(LESSON) > 40


def test_every_fit_asks_for_it(monkeypatch):
    calls = []
    monkeypatch.setattr(epochs, "keep_freed_memory", lambda: calls.append(torch.get_num_threads()))
    TangentPropRegressor(max_epochs=1).fit(np.eye(4), np.arange(4.0))
    assert len(calls) == 1
