import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("plot_*.py"))

pytest.importorskip("matplotlib")


def test_examples_are_found():
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_saves_a_picture_where_it_runs(example, tmp_path):
    run(example, tmp_path, "--quick")
    check_picture(tmp_path / f"{example.stem.removeprefix('plot_')}.png")


def test_out_says_where_the_picture_goes(tmp_path):
    picture = tmp_path / "elsewhere.png"
    run(EXAMPLES[-1], tmp_path, "--quick", "--out", str(picture))
    check_picture(picture)
    assert list(tmp_path.glob("*.png")) == [picture]


def run(example, directory, *arguments):
    process = subprocess.run(
        [sys.executable, str(example), *arguments],
        cwd=directory,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr


def check_picture(path):
    import matplotlib.pyplot as plt

    assert path.stat().st_size > 5_000
    pixels = plt.imread(path)  # raises for anything that is not an image
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 1
