import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, softmax
from sklearn.neural_network import MLPClassifier
from torch import nn

from sktangent import TangentPropClassifier
from sktangent.tangents import FeatureTangents


def quick(tangents=None, **params):
    return TangentPropClassifier(tangents, **{"max_epochs": 5, "random_state": 0, **params})


@pytest.mark.parametrize(
    "names",
    [
        np.array(["ham", "spam"]),
        np.array(["ham", "spam"], dtype=object),
        np.array([False, True]),
        np.array([-1, 1]),
        np.array([7, 3]),
        np.array([0.0, 1.0]),
    ],
    ids=lambda names: str(names),
)
def test_any_two_labels(names, X, labels):
    y = names[(labels == "spam").astype(int)]
    model = quick(FeatureTangents([2, 3]), max_epochs=150, lr=0.01).fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.sort(names))
    assert model.classes_.dtype == y.dtype == model.predict(X).dtype
    assert model.score(X, y) > 0.95


def test_three_labels(X, three_labels):
    y = np.array(["low", "mid", "high"])[three_labels]
    model = quick(max_epochs=200, lr=0.01).fit(X, y)
    assert model.classes_.tolist() == ["high", "low", "mid"]
    assert model.score(X, y) > 0.95
    assert model.decision_function(X).shape == (60, 3)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_outputs_agree_with_one_another(n_classes, X, three_labels):
    y = three_labels % n_classes
    model = quick(max_epochs=30).fit(X, y)
    with torch.no_grad():
        logits = model.module_(torch.as_tensor(X)).numpy()
    np.testing.assert_allclose(model.predict_proba(X), softmax(logits, axis=1))
    np.testing.assert_allclose(model.predict_log_proba(X), log_softmax(logits, axis=1))
    np.testing.assert_array_equal(model.predict(X), model.classes_[logits.argmax(axis=1)])
    decision = model.decision_function(X)
    if n_classes == 2:
        assert decision.shape == (60,)
        np.testing.assert_allclose(expit(decision), model.predict_proba(X)[:, 1])
    else:
        np.testing.assert_allclose(decision, logits)


def test_probabilities_far_out_have_a_logarithm(X, labels):
    model = quick().fit(X, labels)
    log_proba = model.predict_log_proba(1e6 * X)
    assert np.isfinite(log_proba).all()
    assert log_proba.min() < -1000


def test_multilabel(X):
    Y = (X[:, :3] > 0).astype(int)
    model = quick(FeatureTangents([3]), max_epochs=300, lr=0.01).fit(X, Y)
    peer = MLPClassifier(max_iter=5, solver="sgd", tol=1e9, n_iter_no_change=1).fit(X, Y)
    for method in ("predict", "predict_proba"):
        ours, theirs = getattr(model, method)(X), getattr(peer, method)(X)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_array_equal(model.classes_, peer.classes_)
    assert (model.predict(X) == Y).mean() > 0.95
    np.testing.assert_allclose(expit(model.decision_function(X)), model.predict_proba(X))
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X))


def test_multilabel_penalty_on_probabilities_and_class_weight(X):
    Y = (X[:, :2] > 0.5).astype(int)
    model = quick(FeatureTangents(), penalty_on="proba", class_weight="balanced").fit(X, Y)
    assert model.penalty_curve_[-1] > 0
    with pytest.raises(ValueError, match="y is binary of labels"):
        model.set_params(warm_start=True).fit(X, Y[:, 0])


@pytest.mark.parametrize("class_weight", [{"ham": 1.0, "spam": 3.0}, "balanced"])
def test_class_weight_is_sample_weight(class_weight, X, labels):
    factor = {"ham": 1.0, "spam": 3.0}
    if class_weight == "balanced":
        factor = {name: 30 / np.sum(labels == name) for name in factor}
    weight = np.array([factor[label] for label in labels])
    own = np.random.default_rng(0).uniform(0.5, 1.5, size=60)
    model = quick(FeatureTangents(), class_weight=class_weight).fit(X, labels, own)
    expected = quick(FeatureTangents()).fit(X, labels, own * weight)
    np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X), rtol=1e-12)
    plain = quick(FeatureTangents()).fit(X, labels, own)
    assert not np.allclose(model.predict_proba(X), plain.predict_proba(X))


def test_class_weight_zero_for_all(X, labels):
    with pytest.raises(ValueError, match="zero for every sample"):
        quick(class_weight={"ham": 0, "spam": 0}).fit(X, labels)


def test_partial_fit_knows_classes_that_have_not_come_yet(X, three_labels):
    first = three_labels < 2
    model = quick().partial_fit(X[first], three_labels[first], classes=[2, 0, 1])
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.predict_proba(X).shape == (60, 3)
    model.partial_fit(X, three_labels)
    assert model.n_iter_ == 2


def test_partial_fit_needs_all_classes(X, three_labels):
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        quick().partial_fit(X, three_labels)
    model = quick().partial_fit(X, three_labels, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="expected some of"):
        model.partial_fit(X, three_labels + 1)
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(X, three_labels, classes=[0, 1])


def test_partial_fit_may_be_called_again_after_it_failed(X, three_labels):
    model = quick()
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(X * np.nan, three_labels, classes=[0, 1, 2])
    model.partial_fit(X, three_labels % 2, classes=[0, 1, 2])
    assert model.predict_proba(X).shape == (60, 3)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.linspace(0, 1, 60), "continuous"),
        (np.arange(120).reshape(60, 2) % 3, "multioutput"),
        (np.arange(59), "inconsistent numbers of samples"),
    ],
)
def test_wrong_labels(y, message, X):
    with pytest.raises(ValueError, match=message):
        quick().fit(X, y)


def focal(logits, y):
    log_p = torch.log_softmax(logits, 1).gather(1, y[:, None])[:, 0]
    return -((1 - log_p.exp()) ** 2) * log_p


@pytest.mark.parametrize("criterion", [focal, nn.MultiMarginLoss])
def test_a_loss_of_the_user(criterion, X, labels):
    model = quick(FeatureTangents([3]), criterion=criterion, max_epochs=150, lr=0.01)
    assert model.fit(X, labels).score(X, labels) > 0.9


def test_arguments_of_the_loss(X, labels):
    smooth = quick(criterion__label_smoothing=0.4, max_epochs=300, lr=0.02).fit(X, labels)
    assert (
        smooth.predict_proba(X).max()
        < 0.9
        < quick(max_epochs=300, lr=0.02).fit(X, labels).predict_proba(X).max()
    )


def test_a_loss_that_does_not_fit_is_found_before_training(X, labels):
    with pytest.raises(ValueError, match="criterion cannot compare outputs of shape"):
        quick(criterion=lambda z, y: z @ y).fit(X, labels)
    with pytest.raises(ValueError, match="one value a sample"):
        quick(criterion=nn.functional.cross_entropy).fit(X, labels)
