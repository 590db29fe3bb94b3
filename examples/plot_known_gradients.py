"""
===========================
Values with known gradients
===========================

A simulation that comes with an adjoint gives, beside the value, its derivative with respect to
every input, at the price of about one more run. Each derivative is one more number to learn from:
in two dimensions a sample holds three instead of one. ``fit(X, y, derivatives=...)`` takes them.

Here are a function of one input from five points, and a hilly function of two inputs from 50
points; each with and without its derivatives. Then, where they are installed, other surrogates
that take gradients: JENN, also a network, and a gradient-enhanced Gaussian process.
"""

import argparse
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from sktangent import TangentPropRegressor

try:
    from benchmarks.known_gradients import gradient_process_fit, jenn_fit, sktangent_fit
except SystemExit:  # jenn or gpytorch is not there
    fits = {}
else:
    fits = {
        "sktangent": sktangent_fit,
        "JENN": lambda *data: jenn_fit(*data, alpha=0.05, lambd=0),
        "Gaussian process": gradient_process_fit,
    }

# how long each fit trains is chosen for the comparison
warnings.simplefilter("ignore", ConvergenceWarning)

parser = argparse.ArgumentParser(description="Functions from points, with and without slopes.")
parser.add_argument("--out", default="known_gradients.png", help="where to save the picture")
parser.add_argument("--quick", action="store_true", help="fewer epochs and random states")
args = parser.parse_args()

limits = {"max_epochs": 3} if args.quick else {}
random_states = range(1) if args.quick else range(3)
sizes = (10, 25) if args.quick else (10, 25, 50, 100)
names = {False: "values alone", True: "values and derivatives"}
colors = {False: "tab:orange", True: "tab:blue"}

# %%
# One input, five points
# ----------------------
# Everything else is left to the library. The network sees standardized inputs; the slopes are in
# the units of X and y all the same.


def wave(x):
    return x * np.sin(x)


def wave_slope(x):
    return np.sin(x) + x * np.cos(x)


X = np.linspace(-6, 6, 5)[:, np.newaxis]
grid = np.linspace(-6, 6, 401)[:, np.newaxis]
curves = {}
for known in (False, True):
    models = [
        TangentPropRegressor(
            preprocessor=StandardScaler(), random_state=random_state, **limits
        ).fit(X, wave(X.ravel()), derivatives=wave_slope(X) if known else None)
        for random_state in random_states
    ]
    curves[known] = [model.predict(grid) for model in models]

# %%
# Two inputs, 50 points
# ---------------------
# Rastrigin's function: a bowl with a cosine along each axis.


def rastrigin(X):
    return (10 + X**2 - 10 * np.cos(2 * np.pi * X)).sum(axis=1)


def rastrigin_gradient(X):
    return 2 * X + 20 * np.pi * np.sin(2 * np.pi * X)


def spread(n_points, low, high, seed=0):
    """Draw points from a Latin hypercube: in each coordinate, one in each of n equal parts."""
    rng = np.random.default_rng(seed)
    parts = rng.permuted(np.tile(np.arange(n_points), (2, 1)), axis=1).T
    return low + (high - low) * (parts + rng.random(parts.shape)) / n_points


low, high, n_points = -1, 1.5, 50
X2 = spread(n_points, low, high)
axis = np.linspace(low, high, 81)
mesh = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
surfaces, scores = {}, {}
for known in (False, True):
    for random_state in random_states:
        start = time.perf_counter()
        model = TangentPropRegressor(
            optimizer="lm",  # what derivatives choose by themselves; the values alone get it too
            random_state=random_state,
            **limits,
        ).fit(X2, rastrigin(X2), derivatives=rastrigin_gradient(X2) if known else None)
        seconds = time.perf_counter() - start
        scores.setdefault(known, []).append(
            [
                r2_score(rastrigin(mesh), model.predict(mesh)),
                r2_score(rastrigin_gradient(mesh), model.jacobian(mesh)[:, 0]),
                seconds,
            ]
        )
        if random_state == 0:
            surfaces[known] = model.predict(mesh)

# %%
# What came of it
# ---------------
# Scores on dense grids of the true function, as medians over random states.

print(f"{'median over ' + str(len(random_states)) + ' random states':<36}", end="")
print(f"{'R² of values':>14}{'of partials':>13}{'seconds':>9}")
for known, fitted in curves.items():
    score = np.median([r2_score(wave(grid.ravel()), curve) for curve in fitted])
    print(f"{'one input, ' + names[known]:<36}{score:14.5f}")
for known, rows in scores.items():
    values, partials, seconds = np.median(rows, axis=0)
    print(f"{'Rastrigin, ' + names[known]:<36}{values:14.5f}{partials:13.5f}{seconds:9.1f}")

# %%
# Other surrogates
# ----------------
# On the same points, more and more of them, all by defaults but JENN's learning rate. With ten
# points of this function a Gaussian process with gradients is ahead, and it says how sure it is as
# well; on smoother functions it stays ahead for longer. But its matrix has a row for every number
# that is known, n (d + 1): in ten dimensions 300 points take minutes where the network takes
# seconds, and some thousands of points are out of reach.

errors = {name: [] for name in fits}
for size in sizes:
    for name, fit in fits.items():
        trials = []
        for seed in random_states:
            points = spread(size, low, high, seed)
            start = time.perf_counter()
            predict = fit(points, rastrigin(points), rastrigin_gradient(points), seed)
            seconds = time.perf_counter() - start
            trials.append([1 - r2_score(rastrigin(mesh), predict(mesh)), seconds])
        errors[name].append(np.median(trials, axis=0))
        print(f"{name:<18}{size:>5} points: 1 - R² {errors[name][-1][0]:.1e}", end="")
        print(f" in {errors[name][-1][1]:.1f} s")

# %%
# The picture
# -----------
# Above: networks of several random states through the five points; a tick marks a slope that was
# given. Then the truth, and what the networks made of the points. Below: how far surrogates get
# with more points, and with the time of a fit.

figure = plt.figure(figsize=(11, 11 if fits else 7.4), layout="constrained")
above, below, *rest = figure.subfigures(
    3 if fits else 2, 1, height_ratios=[1, 1.25, 1][: 3 if fits else 2]
)
axes = above.subplots(1, 2, sharey=True)
reach = np.array([-0.5, 0.5])
for ax, known in zip(axes, (False, True), strict=True):
    ax.plot(grid, wave(grid), color="0.8", linewidth=5, label="true function")
    for i, curve in enumerate(curves[known]):
        label = "" if i else "networks"
        ax.plot(grid, curve, color=colors[known], linewidth=1.2, label=label)
    if known:
        for x in X.ravel():
            ax.plot(x + reach, wave(x) + wave_slope(x) * reach, color="tab:red", linewidth=2.5)
        ax.plot([], [], color="tab:red", linewidth=2.5, label="slopes given")
    ax.plot(X, wave(X), "o", color="black", markersize=6, zorder=3, label="points")
    ax.set(xlabel="x", title=f"five points, {names[known]}", ylim=(-8, 6))
    ax.legend(frameon=False, loc="upper center", ncols=2)
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("f(x)")

axes = below.subplots(1, 3, sharex=True, sharey=True)
levels = np.linspace(0, 45, 19)
shape = len(axis), len(axis)
pictures = {"the truth": rastrigin(mesh)}
for known in (False, True):
    pictures[f"{names[known]}: R² = {scores[known][0][0]:.4f}"] = surfaces[known]
for ax, (title, surface) in zip(axes, pictures.items(), strict=True):
    filled = ax.contourf(axis, axis, surface.reshape(shape), levels, extend="both", cmap="viridis")
    ax.plot(*X2.T, "o", color="white", markersize=2.5)
    ax.set(title=title, xlabel="x₁", aspect="equal")
axes[0].set_ylabel("x₂")
below.colorbar(filled, ax=axes, label="f(x)", shrink=0.75)

if fits:
    axes = rest[0].subplots(1, 2, sharey=True)
    for name, marker in zip(fits, "osD", strict=True):
        found, seconds = np.transpose(errors[name])
        axes[0].loglog(sizes, found, marker + "-", label=name)
        axes[1].loglog(seconds, found, marker + "-")
    axes[0].set(xlabel="points with gradients", ylabel="1 − R² of values")
    axes[0].set_xticks(sizes, labels=sizes)
    axes[0].minorticks_off()
    axes[1].set_xlabel("seconds of a fit")
    axes[0].legend(frameon=False)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
figure.savefig(args.out, dpi=150)
