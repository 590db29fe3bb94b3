import os
import re
import subprocess
import sys
from pathlib import Path

CLUSTERS = Path(__file__).parents[1] / "examples" / "clusters"


def run(name, *arguments):
    process = subprocess.run(
        [sys.executable, str(CLUSTERS / name), "--quick", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout, process.stderr


def test_search_on_dask_survives_a_killed_worker_and_sends_samples_once():
    told, logged = run("dask_search.py")
    assert "the same as alone: True" in told
    assert "Restarting worker" in logged  # one was killed
    times = re.search(r"each worker unpickled the samples: \[(.*)\] times", told).group(1)
    assert set(times.split(", ")) == {"1"}, told
