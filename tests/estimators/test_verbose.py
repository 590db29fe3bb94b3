import pytest
from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import cross_val_score

from sktangent import TangentPropClassifier, TangentPropClassifierCV, TangentPropRegressor
from sktangent._speed import shortcuts
from sktangent.tangents import FeatureTangents


def model(verbose=0, **kwargs):
    kwargs = {"max_epochs": 3, "tol": 0, "n_iter_no_change": 5, "random_state": 0, **kwargs}
    return TangentPropClassifier(FeatureTangents([2]), verbose=verbose, **kwargs)


def test_silent_by_default(X, labels, target, capfd):
    model().fit(X, labels)
    TangentPropRegressor(max_epochs=2, random_state=0).fit(X, target)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", [1, True])
def test_one_tells_of_progress(verbose, X, labels, capfd):
    model(verbose, early_stopping=True).fit(X, labels)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("epoch 3/3, data term ")
    assert "penalty" in err
    assert "validation" in err
    assert err.count("\n") == 1


def test_two_prints_the_table(X, labels, capfd):
    model(2).fit(X, labels)
    out, err = capfd.readouterr()
    assert "train_penalty" in out
    assert len(out.splitlines()) == 5
    assert err == ""


def test_going_on_follows_what_verbose_has_become(X, labels, capfd):
    fitted = model(warm_start=True).fit(X, labels)
    fitted.set_params(verbose=1, max_epochs=5).fit(X, labels)
    assert capfd.readouterr().err.startswith("epoch 5/5, ")
    fitted.partial_fit(X, labels)
    assert capfd.readouterr().err.startswith("epoch 1/1, ")
    fitted.set_params(verbose=0).fit(X, labels)
    assert capfd.readouterr() == ("", "")


def test_one_line_a_fit_in_parallel(X, labels, capfd):
    get_reusable_executor().shutdown()  # workers write where it went when they began
    cross_val_score(model(1), X, labels, cv=4, n_jobs=2)
    lines = capfd.readouterr().err.splitlines()
    told = [line for line in lines if "epoch 3/3" in line]  # workers also print their warnings
    assert len(told) == 4
    assert all(line.startswith("epoch 3/3, ") and line.endswith(" in all") for line in told)


def test_progress_can_be_left_out(X, labels, capfd):
    model(1, callbacks__progress=None).fit(X, labels)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("side_by_side", [True, False])
def test_the_choice_of_a_weight_tells_of_its_fits(side_by_side, X, labels, capfd):
    search = TangentPropClassifierCV(
        FeatureTangents([2]), [0, 1], cv=3, max_epochs=3, random_state=0
    )
    with shortcuts(side_by_side):
        search.fit(X, labels)
        assert capfd.readouterr() == ("", "")
        search.set_params(verbose=1).fit(X, labels)
    told, fit = "".join(capfd.readouterr()).strip().rsplit("\n", 1)
    assert ("epoch 6/6, 3 of 3 networks" if side_by_side else "6 out of   6") in told
    assert fit.startswith("epoch 3/3, data term ")
