"""
===========================================
The trap: a scaler in front of the tangents
===========================================

Features of very different size are scaled before a network sees them; in scikit-learn that is a
``StandardScaler`` in front of the estimator in a pipeline. With tangents this is a trap. The
estimator in the pipeline is given scaled samples, and so is the function that computes their
tangents. It knows what a change of the sample looks like in the units in which it was measured,
but it now answers for numbers in other units. Nothing fails and nothing warns: the network
becomes invariant along directions that nobody meant.

``preprocessor=StandardScaler()`` is the right place. The tangents are computed from the samples
as they were measured, and then pushed forward through the scaler, together with them.

Here the two are compared on data where the scales of the features differ a thousandfold.
"""

# %%
# What can be set from the command line: where the picture goes, and a run of a few seconds.

import argparse
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktangent import TangentPropRegressor
from sktangent.preprocessing import push_forward

# how long each fit trains is chosen for the comparison
warnings.simplefilter("ignore", ConvergenceWarning)

parser = argparse.ArgumentParser(description="A scaler in a pipeline against preprocessor=.")
parser.add_argument("--out", default="preprocessor_trap.png", help="where to save the picture")
parser.add_argument("--quick", action="store_true", help="fewer data sets and steps")
args = parser.parse_args()

seeds = range(2) if args.quick else range(5)
n_steps = 200 if args.quick else 1000
n_train, n_test = 60, 1000
start = time.perf_counter()

# %%
# The data
# --------
# Closed vessels with gas in them. Measured are pressure (pascal), temperature (kelvin) and volume
# (litres); wanted is the amount of gas, p V / (R T), of which the training samples hold noisy
# values. The amount does not depend on how warm the vessel was when it was measured: a vessel
# warmed by ten per cent shows ten per cent more pressure too. So each sample has a direction that
# must not matter, known exactly in the units of the measurements: (p, T, 0) / 10.

GAS_CONSTANT = 8314.46  # Pa litre / (mol K)


def draw(n, rng):
    """Draw vessels: measurements of pressure, temperature and volume, and the amounts of gas."""
    amount = rng.uniform(0.7, 1.3, n)
    temperature = rng.uniform(250, 350, n)
    volume = rng.uniform(20, 30, n)
    pressure = amount * GAS_CONSTANT * temperature / volume
    return np.column_stack([pressure, temperature, volume]), amount


def warming(X):
    """Tell in which direction a sample moves when the vessel gets ten per cent warmer."""
    return (X * [0.1, 0.1, 0])[:, np.newaxis]


# %%
# Two models that look alike
# --------------------------
# The same scaler, the same network and the same tangents. Only the place of the scaler differs:
# in the trap, ``warming`` is called with scaled samples, in which a vessel of mean pressure has
# pressure zero, and so stays there however warm it gets. A third model has no tangents.

settings = {
    "hidden_layer_sizes": (50,),
    "optimizer": "adam",
    "lr": 0.01,
    "max_epochs": n_steps,  # all samples are one batch, so an epoch is a step
    "n_iter_no_change": n_steps,
}
models = {
    "no tangents": lambda seed: make_pipeline(
        StandardScaler(), TangentPropRegressor(random_state=seed, **settings)
    ),
    "scaler in front": lambda seed: make_pipeline(
        StandardScaler(), TangentPropRegressor(warming, random_state=seed, **settings)
    ),
    "preprocessor=": lambda seed: TangentPropRegressor(
        warming, preprocessor=StandardScaler(), random_state=seed, **settings
    ),
}

# %%
# How invariant are they?
# -----------------------
# All are asked in the same way, from outside: warm each test vessel a little and cool it a little,
# and see how the prediction of the whole model changes. The mean square of this derivative is what
# Tangent Prop set out to make small.


def invariance_error(model, X, step=1e-3):
    """Return the mean squared derivative of the predictions, by central differences."""
    move = step * warming(X)[:, 0]
    return np.mean(((model.predict(X + move) - model.predict(X - move)) / (2 * step)) ** 2)


invariance = np.empty((len(seeds), len(models)))
rmse = np.empty_like(invariance)
for i, seed in enumerate(seeds):
    rng = np.random.default_rng(seed)
    X_train, amount = draw(n_train, rng)
    y_train = amount + rng.normal(scale=0.05, size=n_train)
    X_test, y_test = draw(n_test, rng)
    fitted = {name: make(seed).fit(X_train, y_train) for name, make in models.items()}
    for j, model in enumerate(fitted.values()):
        invariance[i, j] = invariance_error(model, X_test)
        rmse[i, j] = np.sqrt(np.mean((model.predict(X_test) - y_test) ** 2))

deviations = X_train.std(axis=0)
print(
    "standard deviations: pressure {:,.0f} Pa, temperature {:.0f} K, volume {:.1f} l".format(
        *deviations
    )
)
print(f"the largest over the smallest: {deviations.max() / deviations.min():,.0f}\n")

# In (mol per ten per cent of warming)², geometric mean over the data sets and its range.
print(f"{len(seeds)} data sets of {n_train} training samples, {n_steps} steps")
print(f"{'':<18}mean squared derivative (range)      rmse in mol")
for j, name in enumerate(models):
    mean = np.exp(np.log(invariance[:, j]).mean())
    low, high = invariance[:, j].min(), invariance[:, j].max()
    error, spread = rmse[:, j].mean(), rmse[:, j].std(ddof=1) / np.sqrt(len(seeds))
    print(f"{name:<18}{mean:8.1e} ({low:.1e} to {high:.1e})   {error:8.4f} ± {spread:.4f}")
ratios = invariance[:, 1] / invariance[:, 2]
print("\nscaler in front over preprocessor=, for each data set: ", end="")
print(", ".join(f"{ratio:.1f}" for ratio in ratios))
print(f"geometric mean {np.exp(np.log(ratios).mean()):.1f}, smallest {ratios.min():.1f}")
print(f"\n{time.perf_counter() - start:.0f} s in all")

# %%
# The picture
# -----------
# Left: the directions that the two networks were given, in scaled units, where the networks live.
# Middle: six vessels, cooled and warmed; a flat line is right. Right: the numbers from above.

figure, (left, middle, right) = plt.subplots(
    1, 3, figsize=(13, 4.4), width_ratios=[1.15, 1.15, 1], layout="constrained"
)
colors = {"no tangents": "0.6", "scaler in front": "tab:red", "preprocessor=": "tab:blue"}

scaler = fitted["preprocessor="].preprocessor_
chosen = X_train[:25]
scaled = scaler.transform(chosen)
meant = {
    "preprocessor=": push_forward(scaler, chosen, warming(chosen))[:, 0],
    "scaler in front": warming(scaled)[:, 0],
}
for name, arrows in meant.items():
    # All at half their length, for room; those of the trap longer, to be seen.
    length = 1 if name == "preprocessor=" else 5
    left.quiver(
        *scaled[:, 1::-1].T,
        *length * arrows[:, 1::-1].T,
        color=colors[name],
        angles="xy",
        scale_units="xy",
        scale=2,
        width=0.006,
        label=name if length == 1 else f"{name} ({length} times as long)",
    )
left.plot(*scaled[:, 1::-1].T, "o", color="black", markersize=3)
left.set(xlabel="temperature, scaled", ylabel="pressure, scaled", xlim=(-2.2, 2.4))
left.set_ylim(scaled[:, 0].min() - 0.4, scaled[:, 0].max() + 1.5)
left.set_title("The directions that must not matter")
left.legend(frameon=False, loc="upper left", fontsize=9)

warmth = np.linspace(-1, 1, 41)
ranks = np.argsort(y_test)[np.linspace(30, n_test - 30, 6).astype(int)]
six = X_test[ranks]
middle.hlines(y_test[ranks], -10, 10, color="0.6", linewidth=1, linestyle=":", label="truth")
for name, model in fitted.items():
    if name != "no tangents":
        for k, vessel in enumerate(six):
            path = vessel + warmth[:, np.newaxis] * warming(vessel[np.newaxis])[0]
            label = "" if k else name
            middle.plot(10 * warmth, model.predict(path), color=colors[name], label=label)
middle.set(xlabel="warmed by, in per cent", ylabel="predicted amount in mol")
middle.set_xticks([-10, -5, 0, 5, 10])
middle.set_title("Six vessels, cooled and warmed")
middle.set_ylim(top=middle.get_ylim()[1] + 0.15)
middle.legend(frameon=False, loc="upper left", fontsize=9, ncols=3)

for i in range(len(seeds)):
    right.plot(range(3), invariance[i], color="0.85", zorder=1)
for j, name in enumerate(models):
    right.plot(np.full(len(seeds), j), invariance[:, j], "o", color=colors[name], alpha=0.8)
right.set(yscale="log", xlim=(-0.5, 2.5), title="How much warming matters")
right.set_xticks(range(3), list(models))
right.set_ylabel("mean squared derivative")
for ax in (left, middle, right):
    ax.spines[["top", "right"]].set_visible(False)
figure.savefig(args.out, dpi=150)
