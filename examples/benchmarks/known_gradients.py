"""Known gradients: sktangent against JENN, and Gaussian processes with and without gradients.

All get the same points. sktangent is left to its defaults, JENN has two layers of 12 and trains for
1,000 iterations, its default, and gpytorch's gradient-enhanced process (``RBFKernelGrad``, L-BFGS)
takes the gradients too. With few points in few dimensions of a smooth function it is the one to
beat, and needs nothing chosen; its matrix has n (d + 1) rows, so that some thousands of them are
its end, and it takes a function for equally wavy everywhere. Scores are on a dense test set of true
values and true partial derivatives. JENN runs with its inputs normalized, its own optimizer and a
small grid over its learning rate and regularization, of which the combination with the best median
R² of the test values counts: a choice that nobody with real data could make, in JENN's favour.
The fits of a seed run in turn in one process; the time of JENN is that
of one fit, the search not counted::

    pip install sktangent[benchmarks]
    python examples/benchmarks/known_gradients.py [--quick]
"""

import argparse
import itertools
import time
import warnings

import numpy as np
import torch
from scipy.stats import qmc
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from sktangent import TangentPropRegressor

try:
    import gpytorch
    import jenn
except ImportError as error:
    raise SystemExit(f"{error}; skipped. pip install sktangent[benchmarks]") from error

HIDDEN = (12, 12)
GOAL_ERROR, GOAL_TIME = 0.1, 3
JENN_GRID = list(itertools.product((0.01, 0.05, 0.1), (0, 0.01)))


def rastrigin(x):
    return (10 + x**2 - 10 * torch.cos(2 * torch.pi * x)).sum(1)


def branin(x):
    a, b = x.T
    wave = 10 * (1 - 1 / (8 * torch.pi)) * torch.cos(a)
    return (b - 5.1 / (4 * torch.pi**2) * a**2 + 5 / torch.pi * a - 6) ** 2 + wave + 10


def friedman(x):
    a, b, c, d, e = x.T
    return 10 * torch.sin(torch.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e


# function, bounds of each input, number of points
FUNCTIONS = {
    "Rastrigin": (rastrigin, [(-1, 1.5)] * 2, 100),
    "Branin": (branin, [(-5, 10), (0, 15)], 50),
    "Friedman": (friedman, [(0, 1)] * 5, 100),
}


def with_gradients(function, X):
    x = torch.tensor(X, requires_grad=True)
    y = function(x)
    (gradients,) = torch.autograd.grad(y.sum(), x)
    return X, y.detach().numpy(), gradients.numpy()


def draw(function, bounds, n_points, seed):
    unit = qmc.LatinHypercube(len(bounds), rng=seed).random(n_points)
    return with_gradients(function, qmc.scale(unit, *np.transpose(bounds)))


def unexplained(truth, prediction):
    """Compute 1 - R², for all columns together."""
    return np.square(truth - prediction).sum() / np.square(truth - truth.mean(axis=0)).sum()


def sktangent_fit(X, y, gradients, seed):
    model = TangentPropRegressor(random_state=seed).fit(X, y, derivatives=gradients)
    return model.predict, lambda X: model.jacobian(X)[:, 0]


def jenn_fit(X, y, gradients, seed, alpha, lambd):
    model = jenn.NeuralNet([X.shape[1], *HIDDEN, 1]).fit(
        X.T,
        y[None],
        gradients.T[None],
        is_normalize=True,
        alpha=alpha,
        lambd=lambd,
        max_iter=1000,
        random_state=seed,
    )
    return lambda X: model.predict(X.T)[0], lambda X: model.predict_partials(X.T)[0].T


def gaussian_process_fit(X, y, gradients, seed):
    kernel = ConstantKernel() * RBF(0.2 * np.ptp(X, axis=0))
    model = GaussianProcessRegressor(
        kernel, alpha=1e-10, normalize_y=True, n_restarts_optimizer=2, random_state=seed
    ).fit(X, y)

    def partials(X, h=1e-4):
        steps = h * np.eye(X.shape[1])
        columns = [(model.predict(X + step) - model.predict(X - step)) / (2 * h) for step in steps]
        return np.stack(columns, axis=1)

    return model.predict, partials


class GradientProcess(gpytorch.models.ExactGP):
    """A Gaussian process of a function and its gradient."""

    def __init__(self, x, values, likelihood):
        super().__init__(x, values, likelihood)
        kernel = gpytorch.kernels.RBFKernelGrad(ard_num_dims=x.shape[1])
        self.mean = gpytorch.means.ConstantMeanGrad()
        self.kernel = gpytorch.kernels.ScaleKernel(kernel)

    def forward(self, x):
        return gpytorch.distributions.MultitaskMultivariateNormal(self.mean(x), self.kernel(x))


def gradient_process_fit(X, y, gradients, seed):
    shift, scale = X.mean(axis=0), X.std(axis=0)
    values = np.column_stack([(y - y.mean()) / y.std(), gradients * scale / y.std()])
    x, values = torch.tensor((X - shift) / scale), torch.tensor(values)
    noise = gpytorch.constraints.GreaterThan(1e-9)
    likelihood = gpytorch.likelihoods.MultitaskGaussianLikelihood(
        1 + X.shape[1], noise_constraint=noise, has_task_noise=False
    ).double()
    model = GradientProcess(x, values, likelihood).double()
    likelihood.noise = 1e-6
    evidence = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = -evidence(model(x), values)
        loss.backward()
        return loss

    with gpytorch.settings.fast_computations(False, False, False):
        optimizer.step(closure)
    model.eval()

    def answer(X):
        with torch.no_grad(), gpytorch.settings.fast_computations(False, False, False):
            parts = torch.tensor((X - shift) / scale).split(100)
            return torch.cat([model(part).mean for part in parts]).numpy() * y.std()

    return lambda X: answer(X)[:, 0] + y.mean(), lambda X: answer(X)[:, 1:] / scale


def score(fit, train, test, seed):
    """Return 1 - R² of values and of partial derivatives, and the seconds of the fit."""
    start = time.perf_counter()
    predict, partials = fit(*train, seed)
    seconds = time.perf_counter() - start
    X, y, gradients = test
    return unexplained(y, predict(X)), unexplained(gradients, partials(X)), seconds


def rivals():
    """Name the fits; all but the first and the last two are JENN's."""

    def jenn_with(alpha, lambd):
        return lambda *data: jenn_fit(*data, alpha, lambd)

    return {
        "sktangent": sktangent_fit,
        **{f"JENN, rate {a:g}, L2 {b:g}": jenn_with(a, b) for a, b in JENN_GRID},
        "Gaussian process with gradients": gradient_process_fit,
        "Gaussian process, no gradients": gaussian_process_fit,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one function and two seeds")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")  # the Gaussian process's, of bounds that it meets
    functions = dict(list(FUNCTIONS.items())[:1]) if quick else FUNCTIONS
    n_seeds = 2 if quick else 5
    fits = rivals()
    # the first fit of a process pays for what is loaded on demand
    score(sktangent_fit, *[draw(*FUNCTIONS["Branin"], 0)] * 2, 0)
    print(f"medians over {n_seeds} seeds, {torch.get_num_threads()} threads")
    for name, (function, bounds, n_points) in functions.items():
        test = draw(function, bounds, 400 if quick else 2000, 12345)
        rounds = []
        for seed in range(n_seeds):
            train = draw(function, bounds, n_points, seed)
            rounds.append([score(fit, train, test, seed) for fit in fits.values()])
        report(name, list(fits), np.array(rounds), f"{n_points} points in {len(bounds)} dimensions")


def report(name, names, rounds, size):
    medians = np.median(rounds, axis=0)
    best = 1 + medians[1:-2, 0].argmin()
    print(f"\n{name}, {size}")
    header = ("1 - R² of values", "of partials", "seconds")
    print(f"{'':<34}{header[0]:>18}{header[1]:>14}{header[2]:>10}")
    for row in (0, best, len(names) - 2, len(names) - 1):
        values, partials, seconds = medians[row]
        print(f"{names[row]:<34}{values:18.1e}{partials:14.1e}{seconds:10.2f}")
    ratios = medians[0] / medians[best]
    # seconds of a shared machine: the ratio within a round, then its median
    ratios[2] = np.median(rounds[:, 0, 2] / rounds[:, best, 2])
    goals = (GOAL_ERROR, GOAL_ERROR, GOAL_TIME)
    words = ["yes" if ratio <= goal else "no" for ratio, goal in zip(ratios, goals, strict=True)]
    print(f"{'sktangent / JENN':<34}{ratios[0]:18.3f}{ratios[1]:14.3f}{ratios[2]:10.2f}")
    print(f"{'goal, at most':<34}{goals[0]:18.3f}{'':14}{goals[2]:10.2f}")
    print(f"{'reached':<34}{words[0]:>18}{'':14}{words[2]:>10}", flush=True)


if __name__ == "__main__":
    main()
