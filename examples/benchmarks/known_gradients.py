"""Known gradients: sktangent against JENN and a Gaussian process with gradients.

All get the same points, of functions of 1 to 20 inputs. sktangent is left to its defaults. JENN has
two layers of 12 and trains for 1,000 iterations, its default; of a small grid over its learning
rate and regularization the combination with the best median counts, a choice that nobody with real
data could make, and the time is that of one fit. gpytorch's gradient-enhanced process
(``RBFKernelGrad``, L-BFGS) solves with a matrix of n (d + 1) rows; beyond 1,200 of them it is left
out here: on one core, a fit to 1,197 of the borehole's took 50 s, and to Styblinski's 1,800 320 s.
Scores are 1 - R² of the true values at 2,000 other points, with noise too, which is given as a part
of the standard deviation of the values and of each partial derivative::

    pip install sktangent[benchmarks]
    python examples/benchmarks/known_gradients.py [--quick] [--seeds 5] [--only ...]
    python examples/benchmarks/known_gradients.py --noise 0.01
    python examples/benchmarks/known_gradients.py --rivals sktangent --points 20 100 500 5000 \
        --noise 0 0.01
"""

import argparse
import itertools
import time
import warnings

import numpy as np
import torch
from scipy.stats import qmc

from sktangent import TangentPropRegressor

try:
    import gpytorch
    import jenn
    from linear_operator.utils.errors import NanError
except ImportError as error:
    raise SystemExit(f"{error}; skipped. pip install sktangent[benchmarks]") from error

JENN_HIDDEN = (12, 12)
JENN_GRID = ((0.05, 0), (0.05, 0.01), (0.01, 0))
LARGEST_PROCESS, LARGEST_JENN = 1200, 5000


def x_sin_x(x):
    return (x * torch.sin(x))[:, 0]


def rastrigin(x):
    return (10 + x**2 - 10 * torch.cos(2 * torch.pi * x)).sum(1)


def branin(x):
    a, b = x.T
    wave = 10 * (1 - 1 / (8 * torch.pi)) * torch.cos(a)
    return (b - 5.1 / (4 * torch.pi**2) * a**2 + 5 / torch.pi * a - 6) ** 2 + wave + 10


def ishigami(x):
    a, b, c = x.T
    return torch.sin(a) + 7 * torch.sin(b) ** 2 + 0.1 * c**4 * torch.sin(a)


def rosenbrock(x):
    return ((1 - x[:, :-1]) ** 2 + 100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2).sum(1)


def friedman(x):
    a, b, c, d, e = x.T
    return 10 * torch.sin(torch.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e


def robot_arm(x):
    angles, lengths = x[:, :4].cumsum(1), x[:, 4:]
    across, up = (lengths * angles.cos()).sum(1), (lengths * angles.sin()).sum(1)
    return (across**2 + up**2).sqrt()


def borehole(x):
    rw, r, Tu, Hu, Tl, Hl, L, Kw = x.T
    log = torch.log(r / rw)
    return 2 * torch.pi * Tu * (Hu - Hl) / (log * (1 + 2 * L * Tu / (log * rw**2 * Kw) + Tu / Tl))


def styblinski(x):
    return 0.5 * (x**4 - 16 * x**2 + 5 * x).sum(1)


def waves(x):
    k = torch.arange(1, 11).to(x)
    return torch.sin((k * x).sum(1) / 5) + 0.1 * (x**2).sum(1)


def ridge(x):
    k = torch.arange(1, 21).to(x)
    return (k * x**2).sum(1) / 20 + torch.tanh(x.sum(1))


WELL = [(0.05, 0.15), (100, 50000), (63070, 115600), (990, 1110), (63.1, 116), (700, 820)]
WELL += [(1120, 1680), (9855, 12045)]

# function, bounds of each input, number of points
FUNCTIONS = {
    "x sin x": (x_sin_x, [(-6, 6)], 20),
    "Rastrigin": (rastrigin, [(-1, 1.5)] * 2, 100),
    "Branin": (branin, [(-5, 10), (0, 15)], 50),
    "Ishigami": (ishigami, [(-torch.pi, torch.pi)] * 3, 150),
    "Rosenbrock": (rosenbrock, [(-2, 2)] * 4, 100),
    "Friedman": (friedman, [(0, 1)] * 5, 100),
    "borehole": (borehole, WELL, 75),
    "robot arm": (robot_arm, [(0, 1)] * 8, 300),
    "Styblinski": (styblinski, [(-3, 3)] * 8, 200),
    "waves": (waves, [(-1, 1)] * 10, 300),
    "ridge": (ridge, [(-1, 1)] * 20, 200),
    "Friedman, 2,000": (friedman, [(0, 1)] * 5, 2000),
    "Friedman, 20,000": (friedman, [(0, 1)] * 5, 20000),
}


def with_gradients(function, X):
    x = torch.tensor(X, requires_grad=True)
    y = function(x)
    (gradients,) = torch.autograd.grad(y.sum(), x)
    return X, y.detach().numpy(), gradients.numpy()


def draw(function, bounds, n_points, seed):
    unit = qmc.LatinHypercube(len(bounds), rng=seed).random(n_points)
    return with_gradients(function, qmc.scale(unit, *np.transpose(bounds)))


def with_noise(X, y, gradients, noise, seed):
    rng = np.random.default_rng(seed)
    y = y + noise * y.std() * rng.normal(size=y.shape)
    return X, y, gradients + noise * gradients.std(axis=0) * rng.normal(size=X.shape)


def unexplained(truth, prediction):
    """Compute 1 - R²."""
    return np.square(truth - prediction).sum() / np.square(truth - truth.mean()).sum()


def sktangent_fit(X, y, gradients, seed):
    return TangentPropRegressor(random_state=seed).fit(X, y, derivatives=gradients).predict


def jenn_fit(X, y, gradients, seed, alpha, lambd):
    model = jenn.NeuralNet([X.shape[1], *JENN_HIDDEN, 1]).fit(
        X.T,
        y[None],
        gradients.T[None],
        is_normalize=True,
        alpha=alpha,
        lambd=lambd,
        max_iter=1000,
        random_state=seed,
    )
    return lambda X: model.predict(X.T)[0]


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

    return lambda X: answer(X)[:, 0] + y.mean()


def score(fit, train, test, seed):
    """Return 1 - R² of values, and the seconds of the fit."""
    start = time.perf_counter()
    predict = fit(*train, seed)
    seconds = time.perf_counter() - start
    return unexplained(test[1], predict(test[0])), seconds


def measure(fits, task, seeds, noise, n_test):
    """Return errors and seconds over seeds, (seeds, 2), of the fit whose median error is least."""
    test = draw(*task[:2], n_test, 12345)
    rounds = []
    for seed in range(seeds):
        train = with_noise(*draw(*task, seed), noise, seed)
        rounds.append([score(fit, train, test, seed) for fit in fits])
    rounds = np.array(rounds)
    return rounds[:, np.median(rounds[:, :, 0], axis=0).argmin()]


def jenn_with(alpha, lambd):
    return lambda *data: jenn_fit(*data, alpha, lambd)


RIVALS = {
    "sktangent": [sktangent_fit],
    "JENN": [jenn_with(*pair) for pair in JENN_GRID],
    "Gaussian process": [gradient_process_fit],
}


def cell(rival, task, seeds, noise, n_test):
    """Return what a rival reaches at a task, as it is printed."""
    _, bounds, n_points = task
    if rival == "Gaussian process" and n_points * (1 + len(bounds)) > LARGEST_PROCESS:
        return "too large"
    if rival == "JENN" and n_points > LARGEST_JENN:
        return "not run"
    try:
        errors, seconds = measure(RIVALS[rival], task, seeds, noise, n_test).T
    except NanError:  # of the process, at one of the seeds
        return "broke down"
    parts = np.median(errors), errors.min(), errors.max(), np.median(seconds), seconds.max()
    return "{:.1e} ({:.0e}-{:.0e}) {:.1f} ({:.1f})".format(*parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two functions and one seed")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0])
    parser.add_argument("--points", type=int, nargs="+", help="in place of each function's own")
    parser.add_argument("--only", nargs="+", default=list(FUNCTIONS), choices=list(FUNCTIONS))
    parser.add_argument("--rivals", nargs="+", default=list(RIVALS), choices=list(RIVALS))
    args = parser.parse_args()
    names, seeds = (["Branin", "waves"], 1) if args.quick else (args.only, args.seeds)
    n_test = 400 if args.quick else 2000
    warnings.simplefilter("ignore")
    # the first fit of a process pays for what is loaded on demand
    score(sktangent_fit, *[draw(*FUNCTIONS["x sin x"], 0)] * 2, 0)
    print(
        f"1 - R² and seconds, medians (range; most) over {seeds} seeds, "
        f"{torch.get_num_threads()} threads"
    )
    print(
        f"{'':<18}{'inputs':>7}{'points':>8}{'noise':>7}"
        + "".join(f"{rival:>36}" for rival in args.rivals)
    )
    for name in names:
        function, bounds, own_points = FUNCTIONS[name]
        for n_points, noise in itertools.product(args.points or [own_points], args.noise):
            print(f"{name:<18}{len(bounds):>7}{n_points:>8}{noise:>7}", end="", flush=True)
            for rival in args.rivals:
                task = (function, bounds, n_points)
                print(f"{cell(rival, task, seeds, noise, n_test):>36}", end="", flush=True)
            print()


if __name__ == "__main__":
    main()
