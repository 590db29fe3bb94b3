import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.inspection import LearningDisplay
from sktangent.net import TangentPropNet
from sktangent.tangents import FeatureTangents

QUICK = {"max_epochs": 6, "tol": 0, "random_state": 0}


def column(model, name):
    return [row[name] for row in model.history_]


def test_the_terms_over_the_epochs(X, labels):
    model = TangentPropClassifier(
        FeatureTangents([2]), 0.5, early_stopping=True, n_iter_no_change=9, **QUICK
    ).fit(X, labels)
    display = LearningDisplay.from_estimator(model)
    lines = display.lines_
    assert list(lines) == [
        "data term, training",
        "w × penalty, training",
        "data term, validation",
    ]
    data, penalty, valid = (line.get_ydata() for line in lines.values())
    np.testing.assert_allclose(data, column(model, "train_data_loss"))
    np.testing.assert_allclose(penalty, 0.5 * np.array(column(model, "train_penalty")))
    np.testing.assert_allclose(data + penalty, model.loss_curve_, rtol=1e-6)
    np.testing.assert_allclose(valid, column(model, "valid_loss"))
    np.testing.assert_array_equal(lines["data term, training"].get_xdata(), np.arange(1, 7))
    assert display.best_epoch == np.argmin(valid) + 1
    assert display.ax_.lines[3].get_xdata()[0] == display.best_epoch
    assert display.ax_.texts[0].get_text() == f"best: epoch {display.best_epoch}"
    assert len({line.get_linestyle() for line in lines.values()}) == 3
    assert display.ax_.get_yscale() == "log"


def test_the_best_epoch_need_not_be_the_last():
    net = TangentPropNet(torch.nn.Linear(1, 1), criterion__penalty_weight=3.0).initialize()
    losses = zip([2.0, 1.0, 3.0], [0.5, 1.0, 2.0], [3.0, 4.0, 5.0], [1.0, 1.0, 1.0], strict=True)
    for data, penalty, valid, valid_penalty in losses:
        net.history.new_epoch()
        row = {"train_data_loss": data, "train_penalty": penalty, "valid_loss": valid}
        net.history[-1].update(row, train_loss=data + 3 * penalty, valid_penalty=valid_penalty)
    for number, row in enumerate(net.history):
        row["epoch"] = number + 1
    display = LearningDisplay.from_estimator(net)
    assert display.best_epoch == 1
    np.testing.assert_array_equal(display.curves["w × penalty, validation"], [3, 3, 3])
    for row in net.history:
        del row["valid_loss"]
    display = LearningDisplay.from_estimator(net)
    assert display.best_epoch == 1  # of the whole training loss, 3.5, 4 and 9
    assert "data term, validation" not in display.curves


def test_without_tangents_there_is_no_penalty(X, target):
    Y = np.stack([target, -target], axis=1)
    display = LearningDisplay.from_estimator(TangentPropRegressor(**QUICK).fit(X, Y))
    assert list(display.curves) == ["data term, training"]


def test_inside_pipelines_and_searches(X, target):
    model = make_pipeline(StandardScaler(), TangentPropRegressor(**QUICK))
    search = GridSearchCV(model, {"tangentpropregressor__alpha": [1e-4]}, cv=2).fit(X, target)
    inner = search.best_estimator_[-1]
    ax = plt.subplots()[1]
    display = LearningDisplay.from_estimator(search, ax=ax)
    assert display.ax_ is ax
    np.testing.assert_allclose(display.curves["data term, training"], inner.loss_curve_)


def test_bad_input(X, target):
    with pytest.raises(NotFittedError):
        LearningDisplay.from_estimator(TangentPropRegressor())
    with pytest.raises(TypeError, match="keep no history"):
        LearningDisplay.from_estimator(LinearRegression().fit(X, target))
