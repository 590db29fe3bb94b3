"""Parameters: those handed to skorch, wrong ones, and subclasses."""

import functools

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.modules import MLP
from sktangent.tangents import FeatureTangents

BOTH = pytest.mark.parametrize("estimator", [TangentPropClassifier, TangentPropRegressor])


def quick(estimator, tangents=None, **params):
    return estimator(tangents, **{"max_epochs": 5, "random_state": 0, **params})


@BOTH
def test_parameters_for_skorch(estimator, X, three_labels):
    kwargs = {
        "module__activation": "tanh",
        "criterion__penalty_weight": 3.0,
        "optimizer__betas": (0.5, 0.9),
        "iterator_train__batch_size": 7,
        "callbacks__print_log": None,
    }
    model = quick(estimator, **kwargs)
    assert kwargs.items() <= model.get_params().items()
    assert clone(model).get_params() == model.get_params()
    assert "module__activation='tanh'" in repr(model)
    assert "module__activation" in model._repr_html_()
    model.set_params(module__activation="silu").fit(X, three_labels)
    assert isinstance(model.module_[1], nn.SiLU)
    assert model.net_.criterion_.penalty_weight == 3.0
    assert model.net_.optimizer_.param_groups[0]["betas"] == (0.5, 0.9)
    assert model.history_[-1, "train_batch_count"] == 9
    assert "print_log" not in dict(model.net_.callbacks_)


@BOTH
def test_a_search_reaches_every_prefix(estimator, X, three_labels):
    grid = {
        "module__hidden_layer_sizes": [(3,), (4,)],
        "criterion__penalty_weight": [0.5],
        "optimizer__amsgrad": [True],
        "iterator_train__shuffle": [False],
        "callbacks__stopping__patience": [3],
        "tangents__features": [[0]],
    }
    search = GridSearchCV(quick(estimator, FeatureTangents()), grid, cv=2, error_score="raise")
    best = search.fit(X, three_labels).best_estimator_
    assert best.module_[0].out_features == search.best_params_["module__hidden_layer_sizes"][0]
    assert best.net_.optimizer_.param_groups[0]["amsgrad"]
    assert dict(best.net_.callbacks_)["stopping"].patience == 3
    assert best.tangents_.features == [0]


@BOTH
def test_an_unknown_parameter_is_named_in_fit(estimator, X, three_labels):
    model = estimator(penalty_wieght=1.0)
    with pytest.raises(TypeError, match="no parameter 'penalty_wieght'.*'penalty_weight'"):
        clone(model).fit(X, three_labels)
    with pytest.raises(ValueError, match="Invalid parameter 'penalty_wieght'"):
        estimator().set_params(penalty_wieght=1.0)
    with pytest.raises(TypeError, match="_lr"):
        estimator(_lr=1.0).fit(X, three_labels)


@BOTH
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tangents", np.ones((60, 1, 4))),
        ("penalty_weight", -1.0),
        ("penalty_weight", np.nan),
        ("penalty_weight", np.inf),
        ("module", "mlp"),
        ("hidden_layer_sizes", (0,)),
        ("hidden_layer_sizes", 0),
        ("activation", "swish"),
        ("activation", nn.Tanh()),
        ("criterion", 3),
        ("optimizer", "adamm"),
        ("optimizer", nn.Linear),
        ("lr", 0),
        ("batch_size", 0),
        ("batch_size", "all"),
        ("max_epochs", 0),
        ("alpha", -1),
        ("early_stopping", "yes"),
        ("validation_fraction", 1.0),
        ("n_iter_no_change", 0),
        ("tol", -1),
        ("warm_start", "yes"),
        ("shuffle", 2),
        ("verbose", "loud"),
        ("random_state", "seed"),
        ("device", "tpu9"),
        ("device", 0),
        ("dtype", "float16"),
        ("dtype", np.int64),
        ("dtype", torch.float32),
        ("callbacks", "print"),
    ],
)
def test_a_wrong_value_is_named(estimator, name, value, X, three_labels):
    with pytest.raises(ValueError, match=name):
        quick(estimator).set_params(**{name: value}).fit(X, three_labels)


def test_wrong_values_of_one_estimator_only(X, three_labels):
    for wrong in ({"penalty_on": "odds"}, {"class_weight": "equal"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            quick(TangentPropClassifier, **wrong).fit(X, three_labels)
    with pytest.raises(ValueError, match="normalize_y"):
        quick(TangentPropRegressor, normalize_y="yes").fit(X, three_labels)
    with pytest.raises(ValueError, match="loss must be one of"):
        quick(TangentPropRegressor, criterion="hinge").fit(X, three_labels)
    with pytest.raises(ValueError, match="penalty_on='proba' needs a cross entropy"):
        huber = quick(TangentPropClassifier, penalty_on="proba", criterion=nn.MultiMarginLoss)
        huber.fit(X, three_labels)


SIZES = ["n_features", "n_inputs", "in_features", "input_size", "input_dim"]
OUTPUTS = ["n_outputs", "out_features", "output_size", "output_dim", "n_classes", "num_classes"]


@pytest.mark.parametrize(
    ("n_in", "n_out"),
    [(name, "n_outputs") for name in SIZES] + [("n_features", name) for name in OUTPUTS],
)
def test_sizes_are_given_by_the_names_that_a_constructor_asks_for(n_in, n_out, X, three_labels):
    scope = {"Linear": nn.Linear}
    exec(f"def factory({n_in}, width=3, *, {n_out}): return Linear({n_in}, {n_out})", scope)
    model = quick(TangentPropClassifier, module=scope["factory"]).fit(X, three_labels)
    assert (model.module_.in_features, model.module_.out_features) == (4, 3)


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear,
        nn.Linear(4, 3),
        lambda: nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(3)),
        functools.partial(nn.Linear, 4, 3),
        functools.partial(MLP, activation="tanh"),
    ],
    ids=["class", "instance", "lazy", "partial with sizes", "partial"],
)
def test_kinds_of_modules(module, X, three_labels):
    model = quick(TangentPropClassifier, FeatureTangents(), module=module).fit(X, three_labels)
    assert model.predict_proba(X).shape == (60, 3)
    assert model.penalty_curve_[-1] < model.penalty_curve_[0]


def test_the_instance_of_the_user_is_left_alone(X, three_labels):
    module = nn.Linear(4, 3)
    before = module.weight.detach().clone()
    model = quick(TangentPropClassifier, module=module).fit(X, three_labels)
    assert torch.equal(module.weight, before)
    assert not torch.equal(model.module_.weight.float(), before)
    assert module.weight.dtype == torch.float32
    assert module.weight.grad is None


def test_a_size_bound_by_the_user_is_kept(X, three_labels):
    module = functools.partial(nn.Linear, out_features=7)
    with pytest.raises(ValueError, match="gives 7 outputs where the data need 3"):
        quick(TangentPropClassifier, module=module).fit(X, three_labels)


def test_the_look_at_the_outputs_leaves_no_trace(X, three_labels):
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    model = quick(TangentPropClassifier, FeatureTangents(), module=module).fit(X, three_labels)
    assert model.module_[1].num_batches_tracked == 5  # one for each step


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (nn.Linear(4, 5), ValueError, "gives 5 outputs where the data need 3"),
        (nn.Linear(7, 3), ValueError, r"samples of shape \(4,\).*2x4 and 7x3"),
        (lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), ValueError, r"got \(2,\)"),
        (lambda: 3, TypeError, "module must build a torch.nn.Module, got int"),
    ],
)
def test_modules_that_do_not_fit(module, error, message, X, three_labels):
    with pytest.raises(error, match=message):
        quick(TangentPropClassifier, module=module).fit(X, three_labels)


@pytest.mark.parametrize("sizes", [3, np.int64(3), [3], np.array([3])])
def test_hidden_layer_sizes(sizes, X, target):
    model = quick(TangentPropRegressor, hidden_layer_sizes=sizes).fit(X, target)
    assert model.module_[0].out_features == 3


class Narrow(TangentPropRegressor):
    """A subclass with fewer parameters."""

    def __init__(self, width=2):
        super().__init__(hidden_layer_sizes=(width,), max_epochs=5)
        self.width = width


class Wider(TangentPropRegressor):
    """A subclass with one parameter more."""

    def __init__(self, extra=1, **kwargs):
        super().__init__(**kwargs)
        self.extra = extra


def test_subclasses_of_the_estimators_clone_and_fit(X, target):
    assert Narrow(3).get_params() == {"width": 3}
    assert clone(Narrow(3)).fit(X, target).module_[0].out_features == 3
    wider = clone(Wider(5, lr=0.5, max_epochs=2, module__activation="tanh"))
    assert (wider.extra, wider.lr, wider.module__activation) == (5, 0.5, "tanh")
    assert wider.fit(X, target).n_iter_ == 2
    with pytest.raises(TypeError, match="'lrr'.*'lr'"):
        Wider(lrr=0.5).fit(X, target)


def test_options_of_the_compiler_reach_skorch(X, target):
    search = GridSearchCV(
        quick(TangentPropRegressor, FeatureTangents(), compile__dynamic=True),
        {"compile__fullgraph": [False]},
        cv=2,
        error_score="raise",
    )
    best = search.fit(X, target).best_estimator_
    best.set_params(compile__backend="eager").fit(X, target)
    expected = {"dynamic": True, "fullgraph": False, "backend": "eager"}
    assert best.net_.get_params_for("compile") == expected
    assert clone(best).get_params()["compile__backend"] == "eager"
