import importlib.metadata
import re
from email.message import Message
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent._html import _public_name
from sktangent.preprocessing import GaussianBlur
from sktangent.tangents import FeatureTangents, ImageTangents, NeighborTangents, TangentUnion

HAS_TABLES = parse_version(sklearn.__version__) >= parse_version("1.8")
ADDRESS = "https://example.org/sktangent"


class Outline(HTMLParser):
    """The labels of a diagram, as (depth, text), and its links."""

    def __init__(self, html):
        super().__init__()
        self.labels, self.links, self._depth, self._in_label = [], [], 0, False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self._depth += tag == "div"
        if tag == "label":
            self.labels.append([self._depth, ""])
            self._in_label = True
        if "href" in attrs:
            self.links.append(attrs["href"])

    def handle_endtag(self, tag):
        self._depth -= tag == "div"
        self._in_label &= tag != "label"

    def handle_data(self, data):
        if self._in_label:
            self.labels[-1][1] += data

    @property
    def texts(self):
        return [text for _, text in self.labels]


def outline(estimator):
    return Outline(estimator._repr_html_())


@pytest.fixture
def documented(monkeypatch):
    metadata = Message()
    metadata["Project-URL"] = "Source, https://example.org/source"
    metadata["Project-URL"] = f"Documentation, {ADDRESS}/"
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: metadata)


def test_tangents_and_preprocessor_are_shown_inside():
    model = TangentPropClassifier(ImageTangents((2, 2)), preprocessor=StandardScaler())
    shown = outline(model)
    assert shown.texts[0].startswith("TangentPropClassifier")
    assert shown.texts[1] == "tangents: ImageTangents"
    assert "preprocessor: StandardScaler" in shown.texts
    depths = [depth for depth, _ in shown.labels]
    assert min(depths[1:]) > depths[0]
    assert "image_shape" in model._repr_html_()


def test_a_function_is_shown_by_its_name():
    def sideways(X):
        return np.ones_like(X)[:, None]

    assert "tangents: sideways" in outline(TangentPropRegressor(sideways)).texts


def test_without_either_it_is_one_block():
    assert len(outline(TangentPropRegressor()).labels) == 1


def test_a_fitted_model_shows_what_was_fitted(X, labels):
    model = TangentPropClassifier(
        NeighborTangents(1, 3),
        preprocessor=StandardScaler(),
        max_epochs=1,
        random_state=0,
    )
    before = outline(model)
    assert "Not fitted" in "".join(before.texts)
    after = outline(model.fit(X, labels))
    assert "Not fitted" not in "".join(after.texts)
    block = model._sk_visual_block_()
    assert block.estimators == [model.tangents_, model.preprocessor_]
    assert len(model._repr_html_()) < 1_000_000


def test_kinds_are_shown_inside_a_union():
    union = TangentUnion([("image", ImageTangents((2, 2))), ("each", FeatureTangents([0]))])
    texts = outline(union).texts
    assert "image: ImageTangents" in texts
    assert "each: FeatureTangents" in texts
    nested = outline(make_pipeline(StandardScaler(), TangentPropRegressor(union))).texts
    assert "tangents: TangentUnion" in nested
    assert "image: ImageTangents" in nested


def test_wrong_parameters_are_shown_all_the_same():
    assert "TangentUnion" in TangentUnion("none")._repr_html_()
    assert "TangentPropRegressor" in TangentPropRegressor("none")._repr_html_()


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (TangentPropClassifier(), "sktangent.TangentPropClassifier"),
        (TangentPropRegressor(), "sktangent.TangentPropRegressor"),
        (ImageTangents((2, 2)), "sktangent.tangents.ImageTangents"),
        (GaussianBlur((2, 2)), "sktangent.preprocessing.GaussianBlur"),
    ],
)
def test_links_lead_to_the_reference(estimator, name, documented):
    page = f"{ADDRESS}/api/{name}.html"
    links = outline(estimator).links
    assert page in links
    if HAS_TABLES:
        parameters = [link for link in links if link.startswith(f"{page}#:~:text=")]
        linked = {re.search(r"text=(\w+),", link)[1] for link in parameters}
        assert linked == set(estimator.get_params(deep=False))


def test_the_reference_has_the_pages_that_links_lead_to():
    reference = (Path(__file__).parents[1] / "docs" / "api.rst").read_text()
    assert set(re.findall(r":toctree: (\w+)", reference)) == {"api"}
    for cls in (TangentPropClassifier, ImageTangents, GaussianBlur, TangentUnion):
        module, _, name = _public_name(cls).rpartition(".")
        section = reference.split(f"currentmodule:: {module}\n")[1].split("currentmodule")[0]
        assert f"   {name}\n" in section


def test_no_address_no_link(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "metadata", missing)
    assert outline(TangentPropClassifier()).links == []
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: Message())
    assert outline(TangentPropClassifier()).links == []


def test_classes_of_others_have_no_page(documented):
    class Mine(TangentPropClassifier):
        pass

    assert Mine()._get_doc_link() == ""
