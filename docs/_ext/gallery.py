"""What the examples of the gallery are called with."""

import os
import tempfile
from pathlib import Path


def arguments(gallery_conf, script_vars):
    """Save pictures elsewhere, and run small if ``SKTANGENT_DOCS_QUICK`` asks for it."""
    picture = Path(tempfile.gettempdir()) / "sktangent_gallery.png"
    quick = ["--quick"] if os.environ.get("SKTANGENT_DOCS_QUICK") else []
    return ["--out", str(picture), *quick]
