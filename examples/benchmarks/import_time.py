"""Time of ``import sktangent`` against that of ``import skorch, sklearn``.

Each import runs in a fresh interpreter, the two in turn::

    python examples/benchmarks/import_time.py [--quick]
"""

import argparse
import statistics
import subprocess
import sys
import time


def seconds(statement):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run")
    n_rounds = 2 if parser.parse_args().quick else 11
    pairs = [
        (seconds("import sktangent"), seconds("import skorch, sklearn"))
        for _ in range(n_rounds + 1)
    ][1:]
    ratios = [ours / theirs for ours, theirs in pairs]
    print(
        f"import sktangent: {statistics.median(ours for ours, _ in pairs):.2f} s, ratio "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
