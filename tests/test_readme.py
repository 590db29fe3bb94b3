import re
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_code_of_the_readme_runs():
    text = README.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    # the same search, but small
    for found, small in {"lr=5e-3": "max_epochs=2", "320": "60", "n_jobs=2": "n_jobs=1"}.items():
        assert code.count(found) == 1
        code = code.replace(found, small)
    names = {}
    exec(code, names)
    assert names["model"].tangents(np.ones((3, 100))).shape == (3, 2, 100)
    np.testing.assert_allclose(names["stairs"].jacobian(names["x"]), 0, atol=1e-3)
    slopes = 6 * np.cos(6 * names["x"])
    np.testing.assert_allclose(names["curve"].jacobian(names["x"])[:, 0], slopes, atol=0.1)
