import pytest

from sktangent._speed import shortcuts


@pytest.fixture(autouse=True)
def with_shortcuts():
    """Test the shortcuts themselves, also where they are turned off for the rest."""
    with shortcuts(True):
        yield
