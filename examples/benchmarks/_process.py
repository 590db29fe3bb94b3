"""What a benchmark asks of the process that it runs in."""

import resource
import sys
from pathlib import Path


def peak_memory():
    """Return the largest size of this process in MiB.

    What Linux reports by getrusage counts the process that started this one, too.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
