"""
===========================================
Spectra on a baseline that nobody asked for
===========================================

How much of a substance is in a mixture? A spectrometer answers with a spectrum: each substance
absorbs light in bands of its own. But every sample also scatters light, a little differently each
time, and that puts the bands on an unknown baseline (an offset, a slope, a curvature) and
multiplies them by an unknown factor. A model with few samples to learn from takes these for
something that matters.

It can be told that they do not matter. ``SeriesTangents`` has them as directions: ``"offset"``,
``"slope"``, ``"curvature"`` and ``"scatter"``. Compared here: a network with and without these
tangents, and what chemists use most, partial least squares: on the spectra as they are, and on
corrected ones. The correction takes second derivatives, which makes the baseline a constant, and
then scales each spectrum to mean zero and variance one (the "standard normal variate").

The spectra are synthetic: so we know the truth, and can draw as many test samples as we like.
"""

# %%
# What can be set from the command line: where the picture goes, and a run of a few seconds.

import argparse
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import savgol_filter
from sklearn.cross_decomposition import PLSRegression
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.parallel import Parallel, delayed

from sktangent import TangentPropRegressor
from sktangent.tangents import SeriesTangents

# how long each fit trains is chosen for the comparison
warnings.simplefilter("ignore", ConvergenceWarning)

parser = argparse.ArgumentParser(description="Regression from spectra with an unknown baseline.")
parser.add_argument("--out", default="spectra_baseline.png", help="where to save the picture")
parser.add_argument("--quick", action="store_true", help="fewer sizes, data sets and steps")
args = parser.parse_args()
start = time.perf_counter()

sizes = [20] if args.quick else [10, 20, 40, 80]
n_repeats = 2 if args.quick else 5
n_steps = 150 if args.quick else 400
weights = [0.1, 1.0] if args.quick else [0.01, 0.1, 1.0]

# %%
# The spectra
# -----------
# Three substances share each mixture; the content of the first is wanted. Their bands overlap.
# The random factor, the baseline and a little noise come on top.

wavelengths = np.linspace(1100, 2500, 120)
u = np.linspace(-1, 1, len(wavelengths))
parabolas = np.array([np.ones_like(u), u, (3 * u**2 - 1) / 2])


def band(centre, width):
    return np.exp(-0.5 * ((wavelengths - centre) / width) ** 2)


substances = np.array(
    [
        band(1450, 60) + 0.6 * band(1940, 70),
        0.7 * band(1520, 80) + band(2100, 90),
        0.8 * band(1730, 50) + 0.9 * band(2310, 60) + 0.3 * band(1200, 60),
    ]
)


def draw(n, rng):
    """Draw spectra and the content of the first substance."""
    contents = rng.dirichlet([2, 2, 2], size=n)
    factor = np.exp(rng.normal(scale=0.2, size=(n, 1)))
    baseline = rng.normal(scale=[0.5, 0.3, 0.2], size=(n, 3)) @ parabolas
    noise = rng.normal(scale=0.005, size=(n, len(wavelengths)))
    return factor * (contents @ substances) + baseline + noise, contents[:, 0]


# %%
# The models
# ----------
# Centring the spectra is the network's preprocessor, so the tangents are those of the spectra as
# they were measured. ``"scatter"`` takes the mean of the training spectra as its reference, which
# ``fit`` learns.
#
# The correction smooths over 17 samples, which suits these bands: with fewer, the noise in the
# second derivatives is worse.

tangents = SeriesTangents(("offset", "slope", "curvature", "scatter"))


def make_net(tangents, penalty_weight=1.0, random_state=0):
    return TangentPropRegressor(
        tangents,
        penalty_weight,
        preprocessor=StandardScaler(with_std=False),
        optimizer="adam",
        lr=0.003,
        batch_size=100,  # all samples at once, so an epoch is a step
        max_epochs=n_steps,
        n_iter_no_change=n_steps,
        random_state=random_state,
    )


def correct(X):
    """Differentiate each spectrum twice, then bring it to mean zero and variance one."""
    curved = savgol_filter(X, window_length=17, polyorder=2, deriv=2, axis=1)
    curved -= curved.mean(axis=1, keepdims=True)
    return curved / curved.std(axis=1, keepdims=True)


def make_pls(corrected, n_samples):
    """Partial least squares, with as many components as cross-validation finds best."""
    pls = PLSRegression(scale=False)
    model = make_pipeline(FunctionTransformer(correct) if corrected else "passthrough", pls)
    n_components = range(1, min(12, n_samples * 4 // 5 - 1))
    grid = {"plsregression__n_components": n_components}
    return GridSearchCV(model, grid, cv=5, scoring="neg_mean_squared_error")


# %%
# The penalty weight
# ------------------
# It is chosen by cross-validation, on 40 spectra that are used for nothing else.

search = GridSearchCV(
    make_net(tangents),
    {"penalty_weight": weights},
    cv=4,
    scoring="neg_root_mean_squared_error",
    n_jobs=2,
).fit(*draw(40, np.random.default_rng(1000)))
penalty_weight = search.best_params_["penalty_weight"]
print("penalty weight    cross-validated error")
for weight, score in zip(weights, search.cv_results_["mean_test_score"], strict=True):
    print(f"{weight:14g}    {-score:21.4f}")
print(f"chosen: {penalty_weight:g}\n")

# %%
# The experiment
# --------------

methods = [
    "network, no tangents",
    "partial least squares",
    "corrected spectra, pls",
    "network, tangents",
]


def errors_of_all(n_samples, repeat):
    rng = np.random.default_rng([n_samples, repeat])
    X, y = draw(n_samples, rng)
    X_test, y_test = draw(2000, rng)
    models = [
        make_net(None, random_state=repeat),
        make_pls(False, n_samples),
        make_pls(True, n_samples),
        make_net(tangents, penalty_weight, random_state=repeat),
    ]
    return [np.sqrt(np.mean((m.fit(X, y).predict(X_test).ravel() - y_test) ** 2)) for m in models]


runs = [(n, repeat) for n in sizes for repeat in range(n_repeats)]
rmse = np.reshape(
    Parallel(n_jobs=2)(delayed(errors_of_all)(*run) for run in runs),
    (len(sizes), n_repeats, len(methods)),
)
mean = rmse.mean(axis=1)
standard_error = rmse.std(axis=1, ddof=1) / np.sqrt(n_repeats)

print(
    f"root mean square error of the content, mean over {n_repeats} data sets and its standard error"
)
print("samples" + "".join(f"{name:>24}" for name in methods))
for i, n in enumerate(sizes):
    cells = "".join(f"{m:15.4f} ± {s:.4f}" for m, s in zip(mean[i], standard_error[i], strict=True))
    print(f"{n:7d}{cells}")
print("\nerror of the network with tangents, over that of")
for j, name in enumerate(methods[:-1]):
    ratios = ", ".join(
        f"{r:.2f} ({n})" for r, n in zip(mean[:, -1] / mean[:, j], sizes, strict=True)
    )
    print(f"{name:<24}{ratios}")
_, y = draw(10000, np.random.default_rng(1001))
print(f"\nalways guessing the mean: {y.std():.3f}")
print(f"{time.perf_counter() - start:.0f} s in all")

# %%
# The picture
# -----------
# Left: the three substances, and eight mixtures as the spectrometer shows them, coloured by the
# content that is wanted. Middle: one spectrum and its four tangents. Right: the errors.

figure, axes = plt.subplot_mosaic(
    [["pure", "tangents", "errors"], ["mixtures", "tangents", "errors"]],
    figsize=(13, 4.8),
    width_ratios=[1, 1, 1.25],
    height_ratios=[1, 1.7],
    layout="constrained",
)
colors = {
    methods[0]: ("0.6", "s", ":"),
    methods[1]: ("tab:orange", "^", "--"),
    methods[2]: ("tab:green", "v", "--"),
    methods[3]: ("tab:blue", "o", "-"),
}
axes["pure"].plot(wavelengths, substances[1:].T, color="0.7", linewidth=1)
axes["pure"].plot(wavelengths, substances[0], color="black", linewidth=1.5)
axes["pure"].set(title="How much of the black one ...", xticklabels=[], yticks=[])
X, y = draw(200, np.random.default_rng(1))
picked = np.argsort(y)[np.linspace(5, 195, 8).astype(int)]
low, high = y[picked].min(), y[picked].max()
for i in picked:
    color = plt.cm.viridis((y[i] - low) / (high - low))
    axes["mixtures"].plot(wavelengths, X[i], color=color, linewidth=1)
axes["mixtures"].set(title="... is in mixtures that look like this?", xlabel="wavelength in nm")
axes["mixtures"].set_ylabel("absorbance")
scale = plt.cm.ScalarMappable(plt.Normalize(low, high), "viridis")
figure.colorbar(scale, ax=axes["mixtures"], label="content", pad=0.01)

spectrum = X[picked[-1:]]
parts = [spectrum[0], *tangents.fit(X)(spectrum)[0]]
for k, (part, label) in enumerate(zip(parts, ["spectrum", *tangents.transforms], strict=True)):
    offset = -2.4 * k
    axes["tangents"].axhline(offset, color="0.85", linewidth=0.8)
    axes["tangents"].plot(wavelengths, part + offset, color="black" if k == 0 else "tab:red")
    axes["tangents"].annotate(label, (2520, offset), va="center", annotation_clip=False)
axes["tangents"].set(title="A spectrum and its tangents", yticks=[], xlabel="wavelength in nm")

ax = axes["errors"]
for j, (name, (color, marker, line)) in enumerate(colors.items()):
    ax.errorbar(
        sizes,
        mean[:, j],
        standard_error[:, j],
        color=color,
        marker=marker,
        linestyle=line,
        capsize=3,
        label=name,
    )
ax.set(xscale="log", yscale="log", xlabel="training samples")
ax.set_ylabel("root mean square error of the content")
ax.set_xticks(sizes, [str(n) for n in sizes])
ticks = [
    tick
    for tick in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    if mean.min() / 1.3 < tick < 1.3 * mean.max()
]
ax.set_yticks(ticks, [str(tick) for tick in ticks])
ax.minorticks_off()
ax.grid(color="0.9")
ax.set_title(f"Mean of {n_repeats} data sets ± standard error")
ax.legend(frameon=False, fontsize=9)
for ax in axes.values():
    ax.spines[["top", "right"]].set_visible(False)
figure.savefig(args.out, dpi=150)
