"""How the documentation is built: ``sphinx-build -W docs docs/_build/html``."""

import re
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import gallery

import sktangent

project = "sktangent"
author = "The sktangent developers"
copyright = f"2026, {author}"
version = release = sktangent.__version__

extensions = [
    "mathml",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "**/GALLERY_HEADER.rst"]
templates_path = ["_templates"]
# sphinx-gallery's configuration holds functions
suppress_warnings = ["config.cache"]

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "ignore_pattern": r"benchmarks|clusters",
    "reset_modules": ("matplotlib",),
    "reset_argv": gallery.arguments,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "capture_repr": ("_repr_html_",),
    "min_reported_time": 0,
    "doc_module": ("sktangent",),
    "backreferences_dir": "api/backreferences",
    "reference_url": {"sktangent": None},
}
# sphinx-gallery copies figures that scripts leave open, which is all of them
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")

html_theme = "pydata_sphinx_theme"
html_title = "sktangent"
html_static_path = ["_static"]
html_css_files = ["sktangent.css"]
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def escape(app, what, name, obj, options, lines):
    """Escape what numpydoc takes from docstrings and docutils would read as markup."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith(">>>"):
            line = re.sub(r"(?<![`*\\])\*(?=(input|output|image)_shape\b)", r"\\*", line)
            line = re.sub(r"\b(n_features_in|classes)_(?=,\))", r"\1\\_", line)
            # a symbol before a full stop is no item of a list
            lines[i] = re.sub(r"^(\s*)(?=[A-Za-z]\.(\s|$))", r"\1\\", line)


def setup(app):
    app.connect("autodoc-process-docstring", escape, priority=900)
