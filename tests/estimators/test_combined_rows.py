"""Fits with random combinations ask for these, where tangents can combine before they compute."""

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler

from sktangent import TangentPropClassifier
from sktangent.estimators import combined_rows
from sktangent.estimators.combined_rows import CombinedRows
from sktangent.estimators.input_map import InputMap
from sktangent.estimators.tangent_rows import NetworkUnits
from sktangent.tangents import FeatureTangents, ImageTangents, TangentUnion

SHAPE = (6, 6)


class Counting(ImageTangents):
    """Image tangents that count what they are asked for."""

    asked: dict = {}

    def __call__(self, X):
        self.asked["tangents"] = self.asked.get("tangents", 0) + len(X)
        return super().__call__(X)

    def combine(self, X, coefficients):
        self.asked["combinations"] = self.asked.get("combinations", 0) + len(X)
        self.asked["shape"] = coefficients.shape[1:]
        return super().combine(X, coefficients)


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    monkeypatch.setattr(Counting, "asked", {})
    monkeypatch.setattr(combined_rows, "_CHEAP_TO_KEEP", 0)
    return lambda name: Counting.asked.get(name, 0)


@pytest.fixture
def images():
    return np.random.default_rng(0).random((60, 36))


@pytest.fixture
def numbers():
    return np.arange(60) % 3


def fitted(images, numbers, tangents=None, **params):
    params = {"n_projections": 2, "max_epochs": 3, "tol": 1.0, "n_iter_no_change": 3} | params
    model = TangentPropClassifier(
        Counting(SHAPE) if tangents is None else tangents,
        hidden_layer_sizes=5,
        random_state=0,
        **params,
    )
    return model.fit(images, numbers)


def test_combinations_are_asked_for_anew_in_every_epoch(images, numbers, asked):
    fitted(images, numbers)
    assert asked("combinations") == 3 * 60
    assert asked("shape") == (2, 6)
    assert asked("tangents") <= 3  # of one sample, to see what they are


def test_all_tangents_where_that_is_cheaper_or_needed(images, numbers, asked, monkeypatch):
    fitted(images, numbers, n_projections=6)
    fitted(images, numbers, n_projections=None)
    fitted(images, numbers, iterator_train__num_workers=0)
    monkeypatch.setattr(combined_rows, "_CHEAP_TO_KEEP", 2**20)
    fitted(images, numbers)
    assert asked("combinations") == 0


def test_kinds_that_gain_nothing_are_not_asked(images, numbers, monkeypatch):
    for kind in (FeatureTangents, TangentUnion):
        monkeypatch.setattr(kind, "combine", lambda *_: pytest.fail("was asked to combine"))
    fitted(images, numbers, FeatureTangents())
    fitted(images, numbers, TangentUnion([ImageTangents(SHAPE), FeatureTangents([0])]))


def test_a_union_of_kinds_that_combine(images, numbers, asked):
    fitted(images, numbers, TangentUnion([Counting(SHAPE), ImageTangents(SHAPE, "contrast")]))
    assert asked("combinations") == 3 * 60
    assert asked("shape") == (2, 6)


def test_their_mean_penalty_is_that_of_all_tangents(images):
    tangents = ImageTangents(SHAPE)
    units = NetworkUnits(InputMap(None, images.dtype), np.ones(1))
    rows = CombinedRows(images, images, tangents, units, 2, seed=0).computed(np.arange(5, 60))
    J = np.random.default_rng(1).normal(size=(36,))
    drawn = np.mean([((rows[np.arange(55)]["tangents"] @ J) ** 2).sum() for _ in range(300)])
    np.testing.assert_allclose(drawn, ((tangents(images[5:]) @ J) ** 2).sum(), rtol=0.05)


def test_they_are_pushed_through_the_preprocessor(images):
    scaler = MinMaxScaler().fit(images * np.arange(1, 37))
    units = NetworkUnits(InputMap(scaler, images.dtype), np.ones(1))
    plain = CombinedRows(
        images, images, ImageTangents(SHAPE), NetworkUnits(InputMap(None, images.dtype), 1), 2, 0
    ).computed(slice(None))
    pushed = CombinedRows(images, images, ImageTangents(SHAPE), units, 2, 0).computed(slice(None))
    first = np.arange(10)
    np.testing.assert_allclose(
        pushed[first]["tangents"], plain[first]["tangents"] * scaler.scale_, atol=1e-12
    )


def test_the_same_random_state_gives_the_same_model(images, numbers):
    one, same, other = (
        fitted(images, numbers, ImageTangents(SHAPE)).predict_proba(images),
        fitted(images, numbers, ImageTangents(SHAPE)).predict_proba(images),
        fitted(images, numbers, ImageTangents(SHAPE), n_projections=1).predict_proba(images),
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
