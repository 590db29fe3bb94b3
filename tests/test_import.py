import subprocess
import sys

import sktangent


def test_public_names():
    assert set(sktangent.__all__) == {
        "TangentPropClassifier",
        "TangentPropClassifierCV",
        "TangentPropRegressor",
        "TangentPropRegressorCV",
        "__version__",
    }
    assert all(hasattr(sktangent, name) for name in sktangent.__all__)
    assert sktangent.__version__[0].isdigit()


def test_import_loads_nothing_optional():
    code = (
        "import sys, sktangent;"
        "names = ('matplotlib', 'onnx', 'pandas', 'torch._dynamo');"
        "print([name for name in names if name in sys.modules])"
    )
    alone = "import sys, skorch, sklearn;" + code.split(";", 1)[1]
    ours, theirs = (
        subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
        for text in (code, alone)
    )
    assert ours.stdout == theirs.stdout
