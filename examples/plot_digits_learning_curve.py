"""
===========================================
Fewer digits are enough when tangents help
===========================================

A digit that is shifted by half a pixel, or turned a little, is still the same digit. A network
that sees few samples cannot know that. Tangent Prop tells it: at each training image, the outputs
must not change along the *tangents*, the directions in pixel space in which shifting, turning and
stretching move that image.

The paper that introduced the method (Simard, Victorri, LeCun, Denker, NIPS 1991) shows what this
is worth on handwritten digits: the test error over the number of training samples, with and
without tangents. Here is the same experiment on scikit-learn's 8 x 8 digits.
"""

# %%
# What can be set from the command line: where the picture goes, and a run of a few seconds.

import argparse
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.utils.parallel import Parallel, delayed

from sktangent import TangentPropClassifier
from sktangent.preprocessing import GaussianBlur
from sktangent.tangents import ImageTangents

# how long each fit trains is chosen for the comparison
warnings.simplefilter("ignore", ConvergenceWarning)

parser = argparse.ArgumentParser(description="Test error over training samples, digits.")
parser.add_argument("--out", default="digits_learning_curve.png", help="where to save the picture")
parser.add_argument("--quick", action="store_true", help="fewer sizes, splits and steps")
args = parser.parse_args()

sizes = [20, 80] if args.quick else [10, 20, 40, 80, 160, 320]
n_splits = 2 if args.quick else 4
n_steps = 50 if args.quick else 500
n_jobs = 1 if args.quick else 2  # processes take longer to start than the quick run lasts
weights = [0.1, 1.0] if args.quick else [0.03, 0.1]

# %%
# Images and tangents
# -------------------
# As in the paper, the images are smoothed by a Gaussian of half a pixel, for every network alike,
# and the tangents are those of the smoothed images. The paper used the two translations; the six
# affine tangents add rotation, scaling and two ways of stretching.

image_shape = (8, 8)
digits = load_digits()
X = GaussianBlur(image_shape, sigma=0.5).fit_transform(digits.data / 16).astype(np.float32)
y = digits.target

affine = ImageTangents(image_shape)
translations = ImageTangents(image_shape, transforms=("translation_x", "translation_y"))

# %%
# The same network for all
# ------------------------
# One hidden layer of 100 units, and the same number of optimizer steps whatever the training
# size: as many epochs as that takes, and no stopping before.


def make_model(n_samples, tangents=None, penalty_weight=1.0, random_state=0):
    batch_size = min(n_samples, 40)
    n_epochs = n_steps // -(-n_samples // batch_size)
    return TangentPropClassifier(
        tangents,
        penalty_weight,
        lr=0.01,
        batch_size=batch_size,
        max_epochs=n_epochs,
        n_iter_no_change=n_epochs,
        random_state=random_state,
    )


# %%
# Choosing the penalty weight
# ---------------------------
# By cross-validation, on 320 samples that are used for nothing else afterwards. It is chosen for
# the six affine tangents, at this training size; the translations and all other sizes use the same.

start = time.perf_counter()
X, X_tune, y, y_tune = train_test_split(X, y, test_size=320, stratify=y, random_state=0)
search = GridSearchCV(
    make_model(n_samples=256, tangents=affine), {"penalty_weight": weights}, cv=5, n_jobs=n_jobs
).fit(X_tune, y_tune)
penalty_weight = search.best_params_["penalty_weight"]

print("penalty weight    cross-validated error in %")
for weight, score in zip(weights, search.cv_results_["mean_test_score"], strict=True):
    print(f"{weight:14g}    {100 * (1 - score):26.1f}")
print(f"chosen: {penalty_weight:g}\n")

# %%
# The experiment
# --------------
# Each split draws its training samples anew, stratified by class, and tests on all the rest.

methods = {"no tangents": None, "2 translations": translations, "6 affine tangents": affine}


def test_error(n_samples, split, tangents):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=n_samples, stratify=y, random_state=split
    )
    model = make_model(n_samples, tangents, penalty_weight, random_state=split)
    return 100 * (1 - model.fit(X_train, y_train).score(X_test, y_test))


runs = [(n, split, name) for n in sizes for split in range(n_splits) for name in methods]
errors = Parallel(n_jobs=n_jobs)(
    delayed(test_error)(n, split, methods[name]) for n, split, name in runs
)
errors = np.reshape(errors, (len(sizes), n_splits, len(methods)))
mean = errors.mean(axis=1)
standard_error = errors.std(axis=1, ddof=1) / np.sqrt(n_splits)

print(f"test error in %, mean over {n_splits} splits and its standard error, {n_steps} steps each")
print("samples" + "".join(f"{name:>20}" for name in methods) + "    6 affine / none")
for i, n in enumerate(sizes):
    cells = "".join(
        f"{m:13.2f} ± {s:4.2f}" for m, s in zip(mean[i], standard_error[i], strict=True)
    )
    print(f"{n:7d}{cells}{mean[i, 2] / mean[i, 0]:19.2f}")
print(f"\n{time.perf_counter() - start:.0f} s in all")

# %%
# The picture
# -----------
# To the left a digit, and for each of its six tangents the tangent itself (grey is zero) and the
# digit after a step of 0.7 units along it. A unit moves the border of the image by one pixel.

figure = plt.figure(figsize=(10, 5.6), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 2.7])

digit = X[y == 3][0]
labels = ["shift right", "shift down", "turn", "grow", "widen", "widen along\nthe diagonal"]
axes = left.subplots(7, 2)
axes[0, 0].remove()
axes[0, 1].imshow(digit.reshape(image_shape), cmap="gray_r", vmin=0, vmax=1)
axes[0, 1].set_title("digit", fontsize=9)
axes[1, 0].set_title("tangent", fontsize=9)
axes[1, 1].set_title("after a step", fontsize=9)
for row, tangent, label in zip(axes[1:], affine(digit[np.newaxis])[0], labels, strict=True):
    row[0].imshow(tangent.reshape(image_shape), cmap="gray_r", vmin=-0.6, vmax=0.6)
    moved = digit + 0.7 * tangent
    row[1].imshow(moved.reshape(image_shape), cmap="gray_r", vmin=0, vmax=1)
    row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])

ax = right.subplots()
styles = [("0.45", "s", ":"), ("tab:orange", "^", "--"), ("tab:blue", "o", "-")]
for j, (name, (color, marker, line)) in enumerate(zip(methods, styles, strict=True)):
    low, high = mean[:, j] - standard_error[:, j], mean[:, j] + standard_error[:, j]
    ax.fill_between(sizes, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(sizes, mean[:, j], color=color, marker=marker, linestyle=line, label=name)
ax.set(xscale="log", yscale="log", xlabel="training samples", ylabel="test error in %")
ax.set_xticks(sizes, [str(n) for n in sizes])
ticks = [
    tick for tick in (2, 3, 5, 10, 20, 30, 50, 80) if mean.min() / 1.3 < tick < 1.1 * mean.max()
]
ax.set_yticks(ticks, [str(tick) for tick in ticks])
ax.minorticks_off()
ax.grid(color="0.9")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, title=f"mean of {n_splits} splits ± standard error")
ax.set_title("The same network, the same number of steps")
figure.savefig(args.out, dpi=150)
