"""
=====================================
How far does a tangent tell the truth
=====================================

Turn a handwritten digit step by step, and its image moves along a curve in the space of all pixel
values. The *tangent vector* τ is the direction in which that curve starts. Tangent Prop shows a
network nothing but τ; so it is worth knowing how well the straight line x + a τ follows the curve,
and over which amounts a.

Here each of the six affine tangents is laid beside the true transformation, by which ``move``
resamples the image. Two things come out. Close to the image the tangent is
exact. And it stays useful further out when the image has been blurred: a straight line can follow
a soft edge that moves by about its own width, and no further.
"""

# %%
# What can be set from the command line: where the picture goes, and a run over fewer digits.

import argparse
import time

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits

from sktangent.inspection import TangentDisplay
from sktangent.preprocessing import GaussianBlur
from sktangent.tangents import ImageTangents

parser = argparse.ArgumentParser(description="Digits, their tangents and the true motions.")
parser.add_argument("--out", default="image_tangents.png", help="where to save the picture")
parser.add_argument("--quick", action="store_true", help="fewer digits and amounts")
args = parser.parse_args()
start = time.perf_counter()

# %%
# The digits
# ----------
# Scikit-learn's digits have 8 x 8 pixels. A frame of two empty pixels around them lets them move
# without running into the border, and a finer grid of 28 x 28 lets us see what happens.

size = 28
digits = load_digits()
n_digits = 10 if args.quick else 100
framed = np.pad(digits.images[:n_digits] / 16, ((0, 0), (2, 2), (2, 2)))
# Linear interpolation makes no values below zero; its kinks go with the blur.
sharp = ndimage.zoom(framed, (1, size / 12, size / 12), order=1, grid_mode=True, mode="nearest")

# %%
# Tangents and true moves
# -----------------------
# ``x + a τ`` beside the image that has truly been moved by a, its pixels displaced by a at the
# middle of the border: here a digit that was blurred by one pixel. On the left, what is darker or
# lighter than grey is what a takes away from the image or adds to it.

shape = (size, size)
tangents = ImageTangents(shape)
names = list(tangents.transforms)
blurs = [0.0, 1.0, 2.0]
digit = GaussianBlur(shape, blurs[1]).fit_transform(sharp[3:4])
TangentDisplay.from_tangents(tangents, digit, amounts=[-6, -3, 0, 3, 6])

# %%
# Relative error over a
# ---------------------
# How wrong is x + a τ, measured against how far the true transformation went:
# ‖T_a(x) - (x + a τ)‖ / ‖T_a(x) - x‖. An error of one means that standing still would have been
# as good a guess. The blur comes first, of the image itself, and the tangents are those of the
# blurred image.

printed = [0.01, 0.1, 0.5, 1, 2, 4]
amounts = np.union1d(printed, np.geomspace(0.05, 6, 4 if args.quick else 12))
errors = np.empty((len(blurs), len(names), len(amounts), n_digits))
for b, sigma in enumerate(blurs):
    images = GaussianBlur(shape, sigma).fit_transform(sharp)
    straight = tangents(images)
    for t, k in np.ndindex(len(names), len(amounts)):
        steps = np.zeros((n_digits, len(names)))
        steps[:, t] = amounts[k]
        moved = tangents.move(images, steps) - images
        wrong = moved - amounts[k] * straight[:, t]
        errors[b, t, k] = np.linalg.norm(wrong, axis=(1, 2)) / np.linalg.norm(moved, axis=(1, 2))

shown = np.searchsorted(amounts, printed)
print(f"relative error of x + a τ, median over {n_digits} digits")
for b, sigma in enumerate(blurs):
    title = f"blurred by {sigma:g} pixels" if sigma else "as they are"
    print(f"\n{title:<22}" + "".join(f"  a = {amounts[k]:<5.2f}" for k in shown))
    for t, name in enumerate(names):
        cells = "".join(f"{np.median(errors[b, t, k]):11.4f}" for k in shown)
        print(f"{name:<20}{cells}")


def reach(error, level=0.5):
    """Return the amount at which the error reaches a level, by linear interpolation."""
    return np.interp(level, error, amounts)


print("\ndisplacement at the border, in pixels, at which the error reaches one half")
for t, name in enumerate(names):
    row = [reach(np.median(errors[b, t], axis=-1)) for b in range(len(blurs))]
    cells = "".join(f"   blur {s:g}: {r:5.2f}" for s, r in zip(blurs, row, strict=True))
    print(f"{name:<20}{cells}")
print(f"\n{time.perf_counter() - start:.0f} s in all")

# %%
# The picture
# -----------
# The lines are medians over the digits, the bands reach from the 10 % to the 90 % quantile.

figure, ax = plt.subplots(figsize=(7, 5), layout="constrained")
styles = [("0.6", ":"), ("tab:blue", "--"), ("navy", "-")]
for b, (sigma, (color, dashes)) in enumerate(zip(blurs, styles, strict=True)):
    low, middle, high = np.quantile(errors[b].mean(axis=0), [0.1, 0.5, 0.9], axis=-1)
    label = f"blurred by {sigma:g} pixel{'s' * (sigma > 1)}" if sigma else "not blurred"
    ax.fill_between(amounts, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(amounts, middle, color=color, linestyle=dashes, label=label)
ax.axhline(1, color="0.4", linewidth=1)
ax.annotate("no better than standing still", (0.055, 1.05), fontsize=9)
ax.set(xscale="log", yscale="log", xlabel="a: displacement at the border, in pixels")
ax.set(title="Relative error of x + a τ, mean of the six", xlim=(0.05, amounts[-1]))
ax.set_ylim(bottom=errors[-1].mean(axis=(0, 2))[amounts >= 0.05].min() / 1.5)
ax.set_xticks([0.1, 0.3, 1, 3], ["0.1", "0.3", "1", "3"])
ax.minorticks_off()
ax.grid(color="0.9")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, fontsize=9)
figure.savefig(args.out, dpi=150)
