"""
==================
Energy with forces
==================

Quantum chemistry gives, with the energy of an arrangement of atoms, the forces on them: minus the
gradient of the energy. A network for the energy that learns from both needs far fewer
arrangements, and its own forces, which move the atoms in a simulation, come out right.

Here is the smallest such landscape, Müller and Brown's potential of two coordinates (1979), on
which methods for chemical reactions are tried: three valleys and the passes between them. The
error of the forces is measured over the number of samples, with and without forces to learn from.
"""

import argparse
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from sktangent import TangentPropRegressor

# how long each fit trains is chosen for the comparison
warnings.simplefilter("ignore", ConvergenceWarning)

parser = argparse.ArgumentParser(description="An energy from samples with and without forces.")
parser.add_argument("--out", default="energy_and_forces.png", help="where to save the picture")
parser.add_argument("--quick", action="store_true", help="fewer samples, epochs and seeds")
args = parser.parse_args()

sizes = [25, 50] if args.quick else [25, 50, 100]
seeds = range(1) if args.quick else range(3)
max_epochs = 5 if args.quick else 40

# %%
# The potential
# -------------
# A sum of four tilted bells, A exp(a dx² + b dx dy + c dy²).

heights = np.array([-200.0, -100.0, -170.0, 15.0])
a, b, c = np.array([[-1, -1, -6.5, 0.7], [0, 0, 11, 0.6], [-10, -10, -6.5, 0.7]])
centers = np.array([[1, 0], [0, 0.5], [-0.5, 1.5], [-1, 1]])
box = np.array([[-1.5, -0.4], [1.1, 2.0]])
ceiling = 50.0  # above, the walls rise so steeply that nothing ever goes there


def energy_and_forces(X):
    dx, dy = (X[:, np.newaxis] - centers).transpose(2, 0, 1)
    bells = heights * np.exp(a * dx**2 + b * dx * dy + c * dy**2)
    slopes = np.stack([bells * (2 * a * dx + b * dy), bells * (b * dx + 2 * c * dy)])
    return bells.sum(axis=1), -slopes.sum(axis=2).T


def arrangements(n, seed):
    """Draw evenly spread points below the ceiling."""
    rng, n_drawn = np.random.default_rng(seed), 5 * n
    # a Latin hypercube, in random order
    parts = rng.permuted(np.tile(np.arange(n_drawn), (2, 1)), axis=1).T
    low, high = map(np.asarray, box)
    points = low + (high - low) * (parts + rng.random(parts.shape)) / n_drawn
    return points[energy_and_forces(points)[0] < ceiling][:n]


test = arrangements(2000, 1000)
test_energy, test_forces = energy_and_forces(test)

# %%
# The fits
# --------
# A force is minus a derivative: ``derivatives=-forces``, and ``-jacobian(X)`` in return.


def fit(n_samples, seed, with_forces):
    X = arrangements(n_samples, seed)
    energy, forces = energy_and_forces(X)
    return TangentPropRegressor(
        hidden_layer_sizes=(20, 20),
        preprocessor=StandardScaler(),
        optimizer="lbfgs",  # what forces choose by themselves; the energies alone get it too
        random_state=seed,
        max_epochs=max_epochs,
    ).fit(X, energy, derivatives=-forces if with_forces else None)


def errors(model):
    """Return the mean absolute errors of energy and forces."""
    energy, forces = model.predict(test), -model.jacobian(test)[:, 0]
    return np.abs(energy - test_energy).mean(), np.abs(forces - test_forces).mean()


names = {False: "energies alone", True: "energies and forces"}
start = time.perf_counter()
results, shown = {}, {}
for with_forces in names:
    for n_samples in sizes:
        models = [fit(n_samples, seed, with_forces) for seed in seeds]
        results[with_forces, n_samples] = np.array([errors(model) for model in models])
        if n_samples == sizes[0]:
            shown[with_forces] = models[0]

# %%
# The errors
# ----------
# Mean absolute errors over points that no network has seen, medians over seeds (of the samples and
# the networks).

print(f"mean absolute errors, medians over {len(seeds)} seeds")
print(f"{'':<10}{'energy':^30}{'forces':^30}")
print(f"{'samples':<10}" + 2 * f"{'without':>10}{'with':>10}{'ratio':>8}  ")
for n_samples in sizes:
    without, with_them = (np.median(results[key, n_samples], axis=0) for key in names)
    cells = (f"{p:10.2f}{q:10.2f}{q / p:8.3f}" for p, q in zip(without, with_them, strict=True))
    print(f"{n_samples:<10}" + "  ".join(cells))
print(
    f"mean size of energies {np.abs(test_energy - test_energy.mean()).mean():.1f}, of forces "
    f"{np.abs(test_forces).mean():.1f}; {time.perf_counter() - start:.0f} s in all"
)

# %%
# The picture
# -----------
# The landscape from the fewest samples, cut off at the ceiling, with some of the networks' forces
# as arrows; then the error of the forces over the number of samples.

figure, axes = plt.subplots(
    1, 4, figsize=(16, 4.3), width_ratios=[1, 1, 1, 1.25], layout="constrained"
)
x, y = (np.linspace(low, high, 101) for low, high in box.T)
mesh = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
true_energy = energy_and_forces(mesh)[0]
sparse = test[:150]
samples = arrangements(sizes[0], 0)
levels = np.linspace(-150, ceiling, 21)


def draw(ax, energy, forces, title):
    below = np.where(true_energy < ceiling, energy, np.nan).reshape(len(y), len(x))
    filled = ax.contourf(x, y, below, levels, extend="both", cmap="viridis")
    size = np.linalg.norm(forces, axis=1, keepdims=True)
    arrows = forces / np.sqrt(size)  # so that small and large ones can both be seen
    ax.quiver(*sparse.T, *arrows.T, color="white", scale=300, width=0.004)
    ax.set(title=title, xlabel="x", aspect="equal")
    return filled


draw(axes[0], true_energy, energy_and_forces(sparse)[1], "the truth")
for ax, key in zip(axes[1:3], names, strict=True):
    forces = -shown[key].jacobian(sparse)[:, 0]
    filled = draw(ax, shown[key].predict(mesh), forces, f"{sizes[0]} samples, {names[key]}")
    ax.plot(*samples.T, "o", color="tab:red", markersize=3)
    ax.tick_params(labelleft=False)
axes[0].set_ylabel("y")
figure.colorbar(filled, ax=axes[:3], label="energy", shrink=0.8)
for key, color in ((False, "tab:orange"), (True, "tab:blue")):
    low, middle, high = (
        [quantile(results[key, n][:, 1]) for n in sizes] for quantile in (np.min, np.median, np.max)
    )
    axes[3].plot(sizes, middle, "o-", color=color, label=names[key])
    axes[3].fill_between(sizes, low, high, color=color, alpha=0.2, linewidth=0)
axes[3].set(xscale="log", yscale="log", xlabel="samples", title="error of the forces")
axes[3].set_ylabel("mean absolute error")
axes[3].set_xticks(sizes, [str(n) for n in sizes])
axes[3].set_xticks([], minor=True)
axes[3].legend(frameon=False)
axes[3].spines[["top", "right"]].set_visible(False)
figure.savefig(args.out, dpi=150)
