"""
==========================================
Through every point, and flat at every one
==========================================

Take five points on the line y = x and ask a network for two things at once: to pass through every
point, and to have slope zero at every point. The answer must look like a staircase. This is a
figure of the Tangent Prop paper (Simard, Victorri, LeCun, Denker, NIPS 1991).

Somebody who tried this in PyTorch got a straight line instead, and asked in a forum what was
wrong. The loss and its derivative were right. Two choices stand in the way:

1. **The activation.** A ReLU network is piecewise linear. Its slope at a point does not change when
   one of its kinks moves a little, so the penalty on the slope has no gradient that could tell the
   kinks where to go. It can only make the pieces flatter, all of them: a flatter line.
2. **The number of steps.** A smooth activation bends the curve, but in 100 steps it does not get
   far.

Both are shown below: with ReLU even 3,000 steps give a line, and with a smooth activation 100
steps do not suffice.
"""

import argparse
import time
import warnings
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sktangent import TangentPropRegressor
from sktangent.tangents import FeatureTangents

# how long each fit trains is chosen for the comparison
warnings.simplefilter("ignore", ConvergenceWarning)

parser = argparse.ArgumentParser(description="Five points of y = x, with slope zero at each.")
parser.add_argument("--out", default="staircase.png", help="where to save the picture")
parser.add_argument("--quick", action="store_true", help="fewer steps and random states")
args = parser.parse_args()

random_states = range(1) if args.quick else range(5)
many_steps = 300 if args.quick else 3000

X = np.linspace(0, 1, 5)[:, np.newaxis]
y = X.ravel()
grid = np.linspace(0, 1, 1001)[:, np.newaxis]

# %%
# The code of the thread
# ----------------------
# A network 1-100-100-1 with ReLU, Adam at 1e-3, and the sum over the five points of
# (f(x) - y)² + 0.1 f'(x)². Here f' is taken at all points at once: no f(x) depends on another
# point's x, so the gradient of the sum holds the slope of each.


def predict_with_slope(net, x):
    x = torch.as_tensor(x, dtype=torch.float32).requires_grad_()
    f = net(x)
    (slope,) = torch.autograd.grad(f.sum(), x, create_graph=True)
    return f, slope


torch.manual_seed(0)
relu_net = nn.Sequential(
    nn.Linear(1, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 1)
)
optimizer = torch.optim.Adam(relu_net.parameters(), lr=1e-3)
target = torch.as_tensor(y, dtype=torch.float32)[:, None]
relu_results, relu_errors, relu_slopes = {}, [], []
start = time.perf_counter()
for step in range(1, many_steps + 1):
    f, slope = predict_with_slope(relu_net, X)
    error, squared_slope = ((f - target) ** 2).sum(), (slope**2).sum()
    relu_errors.append(error.item())
    relu_slopes.append(squared_slope.item())
    optimizer.zero_grad()
    (error + 0.1 * squared_slope).backward()
    optimizer.step()
    if step in (100, many_steps):
        seconds = time.perf_counter() - start
        f, slope = (part.detach().numpy().ravel() for part in predict_with_slope(relu_net, X))
        curve = predict_with_slope(relu_net, grid)[0].detach().numpy().ravel()
        relu_results[step] = (slope, f), curve, seconds

# %%
# The same data and sizes with sktangent
# --------------------------------------
# ``FeatureTangents()`` asks for slope zero along every input, here the only one. The activation is
# GELU by default. The penalty weight means the same as in the thread: both terms are divided by the
# same numbers, five points and the variance of y. The optimizer is the thread's, Adam at 1e-3, to
# compare step with step; patience, since the losses hardly move for some hundred steps on end.


def fit(random_state, **params):
    return TangentPropRegressor(
        tangents=FeatureTangents(),
        penalty_weight=0.1,
        hidden_layer_sizes=(100, 100),
        random_state=random_state,
        **params,
    ).fit(X, y)


def fit_like_the_thread(random_state, max_epochs=many_steps):
    return fit(random_state, optimizer="adam", max_epochs=max_epochs, n_iter_no_change=1000)


# %%
# What comes out
# --------------
# At the points: the largest slope and residual. Between them: the steepest slope, and how far the
# curve ever falls back below a height that it had reached; a staircase goes up only.


def measure(slopes, f, curve):
    steepest = (np.diff(curve) / np.diff(grid.ravel())).max()
    falls_by = (np.maximum.accumulate(curve) - curve).max()
    return np.abs(slopes).max(), np.abs(f - y).max(), steepest, falls_by


def print_row(name, row):
    slope, residual, steepest, falls_by, epochs, seconds = row
    print(
        f"{name:<30}{slope:8.4f}{residual:12.4f}{steepest:10.2f}{falls_by:10.3f}"
        f"{epochs:8.0f}{seconds:9.1f}"
    )


def run(fit_one, random_state=0):
    start = time.perf_counter()
    model = fit_one(random_state)
    seconds = time.perf_counter() - start
    row = measure(model.jacobian(X), model.predict(X), model.predict(grid))
    return model, (*row, model.n_iter_, seconds)


def run_all(name, fit_one, random_states):
    """Fit once for each random state, and print the figures and their median."""
    rows = [run(fit_one, random_state)[1] for random_state in random_states]
    for random_state, row in zip(random_states, rows, strict=True):
        print_row(f"{name}, state {random_state}", row)
    print_row(f"{name}, median", np.median(rows, axis=0))


print(f"{'':<30}{'at the points':>20}{'between them':>20}")
print(f"{'':<30} |slope|  |residual|  steepest  falls by  epochs  seconds")
for steps, (at_points, curve, seconds) in relu_results.items():
    print_row(f"the thread, {steps} steps", (*measure(*at_points, curve), steps, seconds))
print_row("GELU, 100 steps", run(partial(fit_like_the_thread, max_epochs=100))[1])
ours, row = run(fit_like_the_thread)
print_row("GELU and patience", row)

# %%
# So either reason alone is enough for a line: ReLU stays one after 3,000 steps, and GELU is still
# one after 100.
#
# The same with the optimizer left to the library, which takes L-BFGS for so few samples; an epoch
# is then up to 20 iterations. And with nothing set but the tangents: one hidden layer of 100 units
# and a penalty weight of 1.


max_epochs = 10 if args.quick else "auto"


def fit_plain(random_state):
    return TangentPropRegressor(
        FeatureTangents(), max_epochs=max_epochs, random_state=random_state
    ).fit(X, y)


run_all("optimizer left open", partial(fit, max_epochs=max_epochs), random_states)
run_all("plain defaults", fit_plain, random_states[:1])

# %%
# The picture
# -----------
# A tick marks the slope that the network has at each point. The losses below are in the thread's
# units: sums over the five points, in units of y.

to_sum = len(y) * y.var()  # from means in units of the standard deviation of y
our_errors = to_sum * np.array(ours.history_[:, "train_data_loss"])
our_slopes = to_sum * np.array(ours.penalty_curve_)

figure, axes = plt.subplots(
    2, 2, figsize=(10, 7), sharex="row", sharey="row", height_ratios=[1.6, 1], layout="constrained"
)


def draw_points(ax, f, slopes):
    ax.plot(X, y, "o", color="black", markersize=6, label="data", zorder=3)
    reach = 0.045
    for x, middle, slope in zip(X.ravel(), f, slopes, strict=True):
        tick = np.array([-reach, reach])
        ax.plot(x + tick, middle + slope * tick, color="tab:red", linewidth=3, zorder=2)
    ax.plot([], [], color="tab:red", linewidth=3, label="slope at the data")
    ax.set(xlabel="x", aspect="equal")
    ax.legend(frameon=False, loc="upper left")


def draw_losses(ax, errors, squared_slopes):
    steps = np.arange(1, len(errors) + 1)
    ax.plot(steps, squared_slopes, color="tab:red", label="Σ f′(x)²")
    ax.plot(steps, errors, color="black", linestyle="--", label="Σ (f(x) − y)²")
    ax.set(xscale="log", yscale="log", xlabel="step")
    ax.legend(frameon=False, loc="lower left")


(slopes, f), curve, _ = relu_results[100]
last = relu_results[many_steps][1]
axes[0, 0].plot(grid, curve, color="tab:blue", label="network, 100 steps")
axes[0, 0].plot(grid, last, color="0.5", linestyle=":", label=f"network, {many_steps:,} steps")
draw_points(axes[0, 0], f, slopes)
axes[0, 0].set(ylabel="f(x)", title="The thread: ReLU")
axes[0, 1].plot(
    grid, ours.predict(grid), color="tab:blue", label=f"network, {ours.n_iter_:,} steps"
)
draw_points(axes[0, 1], ours.predict(X), ours.jacobian(X).ravel())
axes[0, 1].set_title("sktangent: GELU")

draw_losses(axes[1, 0], relu_errors, relu_slopes)
axes[1, 0].axvline(100, color="0.7", linewidth=1)
axes[1, 0].annotate("the thread\nstops here ", (100, 1e-4), ha="right", color="0.4", fontsize=9)
axes[1, 0].set_ylabel("sum over the five points")
draw_losses(axes[1, 1], our_errors, our_slopes)
for ax in axes.flat:
    ax.spines[["top", "right"]].set_visible(False)
figure.savefig(args.out, dpi=150)
