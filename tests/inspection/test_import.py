import subprocess
import sys

import numpy as np
import pytest

from sktangent import inspection
from sktangent.inspection import TangentDisplay


def test_public_names():
    assert set(inspection.__all__) == {
        "InvarianceDisplay",
        "LearningDisplay",
        "PenaltyPathDisplay",
        "SensitivityDisplay",
        "TangentDisplay",
    }


def test_importing_displays_leaves_matplotlib_alone():
    code = "import sys, sktangent.inspection; print('matplotlib' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


def test_without_matplotlib_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install sktangent\[plot\]"):
        TangentDisplay.from_tangents(lambda X: X[:, None], np.ones((1, 2)))
