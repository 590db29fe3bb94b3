"""
===========================
Optimization of a surrogate
===========================

A simulation with gradients is run at a few points, a network learns from both, and an optimizer
searches the network, which costs nothing. ``predict(X, return_jacobian=True)`` answers with value
and gradient in one pass, as :func:`scipy.optimize.minimize` asks for with ``jac=True``. Here the
simulation is the six-hump camel function.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize

from sktangent import TangentPropRegressor

parser = argparse.ArgumentParser(description="Minimize a network that knows its gradients.")
parser.add_argument("--out", default="optimization.png", help="where to save the picture")
parser.add_argument("--quick", action="store_true", help="fewer starts")
args = parser.parse_args()

# %%
# The simulation and what it was asked
# ------------------------------------


def camel(X):
    a, b = X.T
    return (4 - 2.1 * a**2 + a**4 / 3) * a**2 + a * b + 4 * (b**2 - 1) * b**2


def camel_gradient(X):
    a, b = X.T
    return np.stack([8 * a - 8.4 * a**3 + 2 * a**5 + b, a - 8 * b + 16 * b**3], axis=1)


def spread(n_points, seed=0):
    """Draw points from a Latin hypercube: in each coordinate, one in each of n equal parts."""
    rng = np.random.default_rng(seed)
    parts = rng.permuted(np.tile(np.arange(n_points), (2, 1)), axis=1).T
    return low + (high - low) * (parts + rng.random(parts.shape)) / n_points


low, high = np.array([-2.0, -1.0]), np.array([2.0, 1.0])
X = spread(40)
model = TangentPropRegressor(random_state=0).fit(X, camel(X), derivatives=camel_gradient(X))

# %%
# The search
# ----------


def surrogate(x):
    y, J = model.predict(x[None], return_jacobian=True)
    return y[0], J[0, 0]


starts = spread(2 if args.quick else 16, seed=1)
bounds = list(zip(low, high, strict=True))
ends = [minimize(surrogate, start, jac=True, bounds=bounds) for start in starts]
best = min(ends, key=lambda end: end.fun)
print(f"{sum(end.nfev for end in ends)} evaluations of the network, none of the simulation")
print(
    f"minimum {best.fun:.5f} at {best.x.round(4)}; the simulation there: "
    f"{camel(best.x[None])[0]:.5f}; its minimum: -1.03163"
)

# %%
# The picture
# -----------

axes_of = [np.linspace(*bound, 121) for bound in bounds]
mesh = np.stack(np.meshgrid(*axes_of), axis=-1).reshape(-1, 2)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True, layout="constrained")
levels = np.linspace(-1.1, 6, 24)
for ax, title, surface in zip(
    axes, ("the simulation", "the network"), (camel(mesh), model.predict(mesh)), strict=True
):
    shape = len(axes_of[1]), len(axes_of[0])
    filled = ax.contourf(*axes_of, surface.reshape(shape), levels, extend="both", cmap="viridis")
    ax.set(title=title, xlabel="x₁")
axes[0].plot(*X.T, "o", color="white", markersize=3)
for start, end in zip(starts, ends, strict=True):
    axes[1].plot(*np.stack([start, end.x]).T, color="white", linewidth=0.7)
axes[1].plot(*np.stack([end.x for end in ends]).T, "*", color="tab:red", markersize=9)
axes[0].set_ylabel("x₂")
figure.colorbar(filled, ax=axes, label="f(x)")
figure.savefig(args.out, dpi=150)
