"""Mathematics as MathML, which browsers draw by themselves: no script, no network."""

from docutils.nodes import SkipNode
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

# commands of LaTeX that docutils does not know, by some that it does
_SYNONYMS = {r"\dots": r"\ldots", r"\Big|": r"\,|\,"}

logger = logging.getLogger(__name__)


def _convert(self, node, as_block):
    formula = node.astext()
    for command, known in _SYNONYMS.items():
        formula = formula.replace(command, known)
    try:
        self.body.append(tex2mathml(formula, as_block=as_block))
    except MathError as error:
        logger.warning("cannot turn into MathML: %s (%s)", node.astext(), error, location=node)


def visit_inline(self, node):
    _convert(self, node, as_block=False)
    raise SkipNode


def visit_block(self, node):
    self.body.append('<div class="math">')
    _convert(self, node, as_block=True)
    self.body.append("</div>")
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.config.html_math_renderer = "mathml"
    return {"version": "1", "parallel_read_safe": True}
