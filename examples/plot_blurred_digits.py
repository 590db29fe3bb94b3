"""
===============================================
Do digits need a blur before tangents can help?
===============================================

A tangent is a straight line, and a sharp edge that moves leaves its line soon. On a blurred image
the line holds for longer. But a blur also takes away detail, and the 8 x 8 pixels of
scikit-learn's digits have little to spare; they are counts of the dark points in 4 x 4 blocks of a
finer image, and so a little smooth already. How much blur is best, and with what penalty weight?

Both go into one grid search, because the blur is the estimator's ``preprocessor=``: the tangents
are computed on the sharp images and pushed forward through the blur, with which they change as the
images do. Then networks with and without a blur, with and without tangents, meet on new images.
"""

# %%
# What can be set from the command line: where the picture goes, and a run of a few seconds.

import argparse
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.utils.parallel import Parallel, delayed

from sktangent import TangentPropClassifier
from sktangent.preprocessing import GaussianBlur
from sktangent.tangents import ImageTangents

# how long each fit trains is chosen for the comparison
warnings.simplefilter("ignore", ConvergenceWarning)

parser = argparse.ArgumentParser(description="Digits, blurred or not, with or without tangents.")
parser.add_argument("--out", default="blurred_digits.png", help="where to save the picture")
parser.add_argument("--quick", action="store_true", help="fewer splits, epochs and candidates")
args = parser.parse_args()
start = time.perf_counter()

n_train = 320
n_splits = 2 if args.quick else 6
n_epochs = 5 if args.quick else 50
sigmas = [0.0, 0.5] if args.quick else [0.0, 0.4, 0.6]
weights = [0.1] if args.quick else [0.03, 0.1, 0.3]

# %%
# The network
# -----------
# The gray levels, 0 to 16, are divided by 16. All networks have one hidden layer of 100 units and
# the same number of epochs; none stops before.

image_shape = (8, 8)
digits = load_digits()
X, y = (digits.data / 16).astype(np.float32), digits.target


def make_model(sigma=0.0, penalty_weight=0.0, random_state=0):
    return TangentPropClassifier(
        ImageTangents(image_shape),
        penalty_weight,  # zero: without tangents
        preprocessor=GaussianBlur(image_shape, sigma),
        lr=0.01,
        batch_size=40,
        max_epochs=n_epochs,
        n_iter_no_change=n_epochs,
        random_state=random_state,
    )


# %%
# How much blur, and what weight?
# -------------------------------
# Cross-validation decides, on 320 images that are used for nothing else afterwards. The best
# weight without a blur serves for the sharp images, the best of all pairs for the blurred ones.

X, X_tune, y, y_tune = train_test_split(X, y, test_size=n_train, stratify=y, random_state=0)
search = GridSearchCV(
    make_model(), {"preprocessor__sigma": sigmas, "penalty_weight": weights}, cv=3, n_jobs=2
).fit(X_tune, y_tune)
tried = search.cv_results_["params"]
cv_error = 100 * (1 - search.cv_results_["mean_test_score"])
table = {
    (p["preprocessor__sigma"], p["penalty_weight"]): e for p, e in zip(tried, cv_error, strict=True)
}
sharp_weight = min(weights, key=lambda weight: table[0.0, weight])
sigma, blur_weight = min((pair for pair in table if pair[0] > 0), key=table.get)

print("cross-validated error in %")
print("blur     " + "".join(f"   weight {weight:<6g}" for weight in weights))
for s in sigmas:
    print(f"{s:<9g}" + "".join(f"{table[s, weight]:16.1f}" for weight in weights))
print(f"chosen: blur {sigma:g} with weight {blur_weight:g}; without a blur {sharp_weight:g}\n")

# %%
# The experiment
# --------------
# Each split draws 320 training images anew and tests on all the rest.

methods = {
    "sharp, no tangents": (0.0, 0.0),
    "blurred, no tangents": (sigma, 0.0),
    "sharp, six tangents": (0.0, sharp_weight),
    "blurred, six tangents": (sigma, blur_weight),
}


def fitted_and_error(split, name):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=n_train, stratify=y, random_state=split
    )
    model = make_model(*methods[name], random_state=split).fit(X_train, y_train)
    return model, 100 * (1 - model.score(X_test, y_test))


runs = [(split, name) for split in range(n_splits) for name in methods]
models, errors = zip(
    *Parallel(n_jobs=2)(delayed(fitted_and_error)(*run) for run in runs), strict=True
)
models = dict(zip(runs, models, strict=True))
errors = np.reshape(errors, (n_splits, len(methods)))
mean = errors.mean(axis=0)
standard_error = errors.std(axis=0, ddof=1) / np.sqrt(n_splits)

print(
    f"test error in %, {n_train} training samples, mean over {n_splits} splits and standard error"
)
for name, m, s in zip(methods, mean, standard_error, strict=True):
    print(f"{name:<24}{m:6.2f} ± {s:4.2f}")
print("\nerror with tangents over the error without, mean over the splits and standard error")
comparisons = [
    ("sharp against sharp", 2, 0),
    ("blurred against blurred", 3, 1),
    ("blurred against sharp", 3, 0),
]
for name, a, b in comparisons:
    ratio = errors[:, a] / errors[:, b]
    print(
        f"{name:<24}{ratio.mean():6.2f} ± {ratio.std(ddof=1) / np.sqrt(n_splits):4.2f}   "
        f"(of the means: {mean[a] / mean[b]:.2f})"
    )
print(f"\n{time.perf_counter() - start:.0f} s in all")

# %%
# The picture
# -----------
# Left: a digit, sharp and blurred, and the same shifted by a pixel along its tangent. Middle:
# the errors of all splits. Right: what the networks of the first split make of test images that are
# shifted to the right, for real, by spline interpolation: the invariance beyond the tangent.

figure = plt.figure(figsize=(13, 4.4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 2.6])
axes = left.subplots(2, 3)
gray = {"cmap": "gray_r", "vmin": 0, "vmax": 1}
digit = X[np.flatnonzero(y == 3)[:1]]
tangent = ImageTangents(image_shape, transforms="translation_x")
for row, s, label in zip(axes, (0.0, sigma), ("sharp", f"blur {sigma:g}"), strict=True):
    image = GaussianBlur(image_shape, s).fit_transform(digit)
    moved = image + tangent(image)[:, 0]
    true = ndimage.shift(image.reshape(image_shape), (0, 1), order=3, mode="nearest")
    for ax, pixels in zip(row, (image, moved, true), strict=True):
        ax.imshow(pixels.reshape(image_shape), **gray)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(label)
for ax, title in zip(axes[0], ("x", "x + τ", "shifted by\na pixel"), strict=True):
    ax.set_title(title, fontsize=10)

middle, last = right.subplots(1, 2)
colors = ["0.75", "0.45", "tab:cyan", "tab:blue"]
for i in range(n_splits):
    middle.plot(errors[i], range(len(methods)), ".", color="black", alpha=0.5, zorder=3)
middle.barh(range(len(methods)), mean, color=colors, xerr=standard_error, height=0.6)
middle.set_yticks(range(len(methods)), [name.replace(", ", ",\n") for name in methods])
middle.invert_yaxis()
middle.set(xlabel="test error in %", title=f"{n_train} training images, {n_splits} splits (dots)")

shifts = np.linspace(-1.5, 1.5, 7 if args.quick else 13)
held_out = [
    train_test_split(X, y, train_size=n_train, stratify=y, random_state=k)[1::2]
    for k in range(n_splits)
]
for name, color in zip(methods, colors, strict=True):
    curve = np.zeros(len(shifts))
    for k, (X_test, y_test) in enumerate(held_out):
        images = X_test.reshape(-1, *image_shape)
        for i, amount in enumerate(shifts):
            moved = ndimage.shift(images, (0, 0, amount), order=3, mode="nearest")
            score = models[k, name].score(moved.reshape(len(images), -1), y_test)
            curve[i] += 100 * (1 - score) / n_splits
    last.plot(shifts, curve, color=color, label=name, linewidth=2)
last.set(
    xlabel="test images shifted to the right by, in pixels",
    ylabel="test error in %",
    ylim=(0, None),
)
last.set_title("The same networks on shifted images")
last.legend(frameon=False, fontsize=9)
last.grid(color="0.9")
for ax in (middle, last):
    ax.spines[["top", "right"]].set_visible(False)
figure.savefig(args.out, dpi=150)
