"""How well the penalty weight is chosen: test errors of the rules against that of the best weight.

Each task is drawn several times. A search by cross-validation finds a grid of weights on the
training samples, and both rules choose from it; then a network for each weight is trained on all
training samples and tested on many others. A weight is the best in hindsight if its mean test error
over all draws is the smallest; weights of the same place in the grid count as the same. The table
shows, as means over the draws, the error of each rule over that of the best weight, and the local
invariance error on the test samples; for a task whose tangents are wrong, or of which nothing
is known, how often one_standard_error chose zero or the smallest weight above it::

    python examples/benchmarks/weight_choice.py [--quick] [--draws 5] [--only series spectra]

Last, kinds: of six in a union three are right, three are what the classes differ by. For each
draw it shows the weights found, and the test errors with six, with the right three, with one weight
for the right three and with none::

    python examples/benchmarks/weight_choice.py --only kinds
"""

import argparse
import functools
import warnings

import numpy as np
from sklearn.base import is_regressor
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sktangent import TangentPropClassifier, TangentPropClassifierCV, TangentPropRegressorCV
from sktangent.metrics import local_invariance_error
from sktangent.model_selection import best_score, one_standard_error
from sktangent.tangents import (
    FeatureTangents,
    ImageTangents,
    NeighborTangents,
    SeriesTangents,
    TangentUnion,
)

RULES = {"best": best_score, "one_standard_error": one_standard_error}
# the place in the grid of what is as good as none: a hundredth of the weight that begins to rule
NEARLY_ZERO = 1
N_TEST = 2000
LENGTH = 24
IMAGES = ImageTangents((8, 8))
RIGHT, WRONG = ("gain", "offset", "slope"), ("shift", "stretch", "warp")


def digits(n_samples, seed):
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    return train_test_split(X, y, train_size=n_samples, stratify=y, random_state=seed)


def tangents_of_the_mirror_image(X):
    return IMAGES(X.reshape(-1, 8, 8)[:, :, ::-1].reshape(X.shape))


def turned_digits(n_samples, seed):
    """Draw digits that are turned, and ask how far."""
    X, X_test, *_ = digits(n_samples, seed)
    rng = np.random.default_rng(seed)
    angles, angles_test = (rng.uniform(-2, 2, len(part)) for part in (X, X_test))
    turn = ImageTangents((8, 8), transforms="rotation").move
    return turn(X, angles[:, None]), turn(X_test, angles_test[:, None]), angles, angles_test


def series(n_samples, seed):
    """Draw two bumps, of which a class is moved, stretched or warped, on some baseline."""
    rng = np.random.default_rng(seed)
    time_ = np.linspace(-1, 1, LENGTH)
    bumps = np.exp(-(((time_ + 0.4) / 0.15) ** 2)) - 0.7 * np.exp(-(((time_ - 0.3) / 0.2) ** 2))
    classes = [np.zeros(5), *(1.5 * np.eye(5)[:3])]
    y = rng.integers(0, len(classes), n_samples + N_TEST)
    X = SeriesTangents(WRONG).move(np.tile(bumps, (len(y), 1)), np.array(classes)[y])
    gain, offset, slope = rng.normal(scale=[[0.3], [0.5], [0.5]], size=(3, len(y)))
    X = np.exp(gain)[:, None] * X + offset[:, None] + np.outer(slope, time_)
    X = (X + rng.normal(scale=0.1, size=X.shape)).astype(np.float32)
    return X[:n_samples], X[n_samples:], y[:n_samples], y[n_samples:]


def spectra(n_samples, seed):
    """Draw mixtures of three substances on a baseline; the content of the first is wanted."""
    rng = np.random.default_rng(seed)
    n = n_samples + N_TEST
    u = np.linspace(-1, 1, 60)
    bands = [np.exp(-(((u - at) / 0.12) ** 2)) for at in (-0.5, -0.35, -0.1, 0.2, 0.4, 0.7)]
    substances = np.array([bands[0] + 0.6 * bands[3], bands[1] + bands[4], bands[2] + bands[5]])
    contents = rng.dirichlet([2, 2, 2], size=n)
    parabolas = np.array([np.ones_like(u), u, (3 * u**2 - 1) / 2])
    X = np.exp(rng.normal(scale=0.2, size=(n, 1))) * (contents @ substances)
    X = X + rng.normal(scale=[0.5, 0.3, 0.2], size=(n, 3)) @ parabolas
    X = (X + rng.normal(scale=0.005, size=X.shape)).astype(np.float32)
    return X[:n_samples], X[n_samples:], contents[:n_samples, 0], contents[n_samples:, 0]


def table(n_samples, seed):
    """Draw a function of six features, two of which count by their distance from zero alone."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples + N_TEST, 6)).astype(np.float32)
    y = np.sin(2 * np.hypot(X[:, 0], X[:, 1])) + 0.5 * X[:, 2] * X[:, 3] + 0.3 * X[:, 4]
    y = y + 0.1 * rng.normal(size=len(y))
    return X[:n_samples], X[n_samples:], y[:n_samples], y[n_samples:]


def turning(first, second, X):
    """Turn the plane of two features."""
    V = np.zeros((len(X), 1, X.shape[1]), X.dtype)
    V[:, 0, first], V[:, 0, second] = -X[:, second], X[:, first]
    return V


def tumours(n_samples, seed):
    X, y = load_breast_cancer(return_X_y=True)
    X, X_test, y, y_test = train_test_split(
        X, y, train_size=n_samples, stratify=y, random_state=seed
    )
    scaler = StandardScaler().fit(X)
    return *(scaler.transform(part).astype(np.float32) for part in (X, X_test)), y, y_test


ADAM = {"optimizer": "adam", "lr": 5e-3, "max_epochs": 150}
# name: (draw, estimator, tangents, whether they are right)
TASKS = {
    "digits, 80": (functools.partial(digits, 80), TangentPropClassifierCV, IMAGES, True),
    "digits, 160": (functools.partial(digits, 160), TangentPropClassifierCV, IMAGES, True),
    "digits, 320": (functools.partial(digits, 320), TangentPropClassifierCV, IMAGES, True),
    "series, 60": (
        functools.partial(series, 60),
        TangentPropClassifierCV,
        SeriesTangents(RIGHT),
        True,
    ),
    "spectra, 40": (
        functools.partial(spectra, 40),
        TangentPropRegressorCV,
        SeriesTangents(("offset", "slope", "curvature", "scatter")),
        True,
    ),
    "table, invariant": (
        functools.partial(table, 100),
        TangentPropRegressorCV,
        functools.partial(turning, 0, 1),
        True,
    ),
    "table, nothing known": (
        functools.partial(tumours, 100),
        TangentPropClassifierCV,
        NeighborTangents(),
        False,
    ),
    "table, wrong": (
        functools.partial(table, 100),
        TangentPropRegressorCV,
        functools.partial(turning, 2, 3),
        False,
    ),
    "table, wrong feature": (
        functools.partial(table, 100),
        TangentPropRegressorCV,
        FeatureTangents([2]),
        False,
    ),
    "digits, mirrored": (
        functools.partial(digits, 160),
        TangentPropClassifierCV,
        tangents_of_the_mirror_image,
        False,
    ),
    "turned digits": (
        functools.partial(turned_digits, 160),
        TangentPropRegressorCV,
        ImageTangents((8, 8), transforms="rotation"),
        False,
    ),
}


def error(model, X, y):
    """Compute the part of wrong answers, or of the standard deviation that is not explained."""
    return np.sqrt(1 - model.score(X, y)) if is_regressor(model) else 1 - model.score(X, y)


def run(task, seed, n_weights=10, **params):
    """Search on one draw of a task; return its results, and the test errors along the path."""
    draw, kind, tangents, _ = task
    X, X_test, y, y_test = draw(seed)
    params = {**ADAM, **params, "random_state": seed}
    search = kind(tangents, n_weights, rule="best", **params).fit(X, y)
    alone = [
        search._plain(tangents, weight, **params).fit(X, y) for weight in search.penalty_weights_
    ]
    return {
        "weights": search.penalty_weights_,
        "results": search.cv_results_,
        "errors": np.array([error(model, X_test, y_test) for model in alone]),
        "invariance": np.array(
            [local_invariance_error(model, X_test[:500], search.tangents_) for model in alone]
        ),
    }


def show(name, runs, is_right):
    """Print how the rules did on several draws of a task; return the ratios of their errors."""
    errors, invariance = (np.array([one[key] for one in runs]) for key in ("errors", "invariance"))
    best = errors.mean(axis=0).argmin()
    line = f"{name:22}{best:3}{errors[:, best].mean():9.4f}"
    draws, ratios = np.arange(len(runs)), []
    for rule in RULES.values():
        chosen = np.array([rule(one["results"]) for one in runs])
        ratios.append(errors[draws, chosen].mean() / errors[:, best].mean())
        line += f"{ratios[-1]:8.3f}{invariance[draws, chosen].mean():8.3f}"
    if not is_right:
        line += f"  nearly zero in {(chosen <= NEARLY_ZERO).sum()} of {len(runs)} draws"
    print(line, flush=True)
    return ratios


def show_all(names, n_draws, **params):
    print(
        f"{n_draws} draws: place of the best weight in hindsight and its error; for each rule the"
    )
    print("error over that, and the local invariance error")
    print(f"{'':34}" + "".join(f"{name:>16}" for name in ("best", "one st. error")))
    of_right = []
    for name in names:
        runs = [run(TASKS[name], seed, **params) for seed in range(n_draws)]
        ratios = show(name, runs, TASKS[name][3])
        of_right += [ratios] if TASKS[name][3] else []
    if of_right:
        means = np.mean(of_right, axis=0)
        print(
            f"{'mean where tangents are right':34}"
            + "".join(f"{mean:8.3f}{'':8}" for mean in means)
        )


def show_kinds(n_samples, n_draws, n_weights, **params):
    print(f"\nkinds: {', '.join(RIGHT)} are right, the classes differ by {', '.join(WRONG)}")
    print(f"{'draw':>4}{'six':>8}{'three':>8}{'one':>8}{'none':>8}   weights of six")
    params, all_errors = {**ADAM, **params}, []
    for seed in range(n_draws):
        X, X_test, y, y_test = series(n_samples, seed)
        three, six = (
            TangentUnion([(kind, SeriesTangents(kind)) for kind in kinds])
            for kinds in (RIGHT, (*RIGHT, *WRONG))
        )
        models = [
            TangentPropClassifierCV(six, dict.fromkeys((*RIGHT, *WRONG), n_weights), **params),
            TangentPropClassifierCV(three, dict.fromkeys(RIGHT, n_weights), **params),
            TangentPropClassifierCV(three, n_weights, **params),
            TangentPropClassifier(**params),
        ]
        for model in models:
            model.set_params(random_state=seed).fit(X, y)
        all_errors.append([1 - model.score(X_test, y_test) for model in models])
        print(f"{seed:4}" + "".join(f"{each:8.4f}" for each in all_errors[-1]), end="   ")
        found = models[0].penalty_weight_
        print(", ".join(f"{kind} {weight:.2g}" for kind, weight in found.items()), flush=True)
    print("mean" + "".join(f"{each:8.4f}" for each in np.mean(all_errors, axis=0)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two tasks, small")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[""], help="tasks whose names begin so")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    names = [name for name in TASKS if name.startswith(tuple(options.only))]
    if options.quick:
        show_all(["table, invariant", "table, wrong"], 1, n_weights=4, max_epochs=20)
        show_kinds(40, 1, 2, max_epochs=20)
        return
    if names:
        show_all(names, options.draws)
    if "kinds".startswith(tuple(options.only)):
        show_kinds(60, options.draws, 6)


if __name__ == "__main__":
    main()
