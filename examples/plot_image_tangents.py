"""
=====================================
How far does a tangent tell the truth
=====================================

Turn a handwritten digit step by step, and its image moves along a curve in the space of all pixel
values. The *tangent vector* τ is the direction in which that curve starts. Tangent Prop shows a
network nothing but τ; so it is worth knowing how well the straight line x + a τ follows the curve,
and over which amounts a.

Here each of the six affine tangents is laid beside the true transformation: the same image,
resampled by cubic spline interpolation. Two things come out. Close to the image the tangent is
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
# The true transformations
# ------------------------
# The content at the place p, seen from the centre in units of half the image, moves by a g(p):
# a is the displacement in pixels at the middle of the border. To draw the moved image, each of
# its pixels asks where its content came from: that is the inverse of p + a g(p), and the spline
# through the pixels of the given image is read there.

half = (size - 1) / 2
generators = {  # g(x, y) = shift + matrix (x, y) / half, with x to the right and y down
    "translation_x": ([1, 0], [[0, 0], [0, 0]]),
    "translation_y": ([0, 1], [[0, 0], [0, 0]]),
    "rotation": ([0, 0], [[0, 1], [-1, 0]]),
    "scaling": ([0, 0], [[1, 0], [0, 1]]),
    "hyperbolic_axis": ([0, 0], [[1, 0], [0, -1]]),
    "hyperbolic_diagonal": ([0, 0], [[0, 1], [1, 0]]),
}
labels = ["shift right", "shift down", "turn", "grow", "widen", "diagonal"]


def transform(image, name, amount):
    """Move the content of an image, as the generator of that name does it over the amount."""
    shift, matrix = (np.array(part, dtype=float) for part in generators[name])
    if name == "rotation":  # turn, rather than follow the straight line, which also grows
        angle = amount / half
        forward = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    else:
        forward = np.eye(2) + amount * matrix / half
    # scipy counts rows first
    inverse = np.linalg.inv(forward)[::-1, ::-1]
    centre = np.array([half, half])
    offset = centre - inverse @ (centre + amount * shift[::-1])
    return ndimage.affine_transform(image, inverse, offset, order=3, mode="nearest")


# %%
# Relative error over a
# ---------------------
# How wrong is x + a τ, measured against how far the true transformation went:
# ‖T_a(x) - (x + a τ)‖ / ‖T_a(x) - x‖. An error of one means that standing still would have been
# as good a guess. The blur comes first, of the image itself, and the tangents are those of the
# blurred image.

blurs = [0.0, 1.0, 2.0]
printed = [0.01, 0.1, 0.5, 1, 2, 4]
amounts = np.union1d(printed, np.geomspace(0.05, 6, 4 if args.quick else 12))
names = list(generators)
errors = np.empty((len(blurs), len(names), len(amounts), n_digits))
for b, sigma in enumerate(blurs):
    images = GaussianBlur((size, size), sigma).fit_transform(sharp)
    tangents = ImageTangents((size, size), transforms=names)(images)
    for t, name in enumerate(names):
        for k, amount in enumerate(amounts):
            for i, image in enumerate(images):
                true = transform(image, name, amount)
                wrong = np.linalg.norm(true - (image + amount * tangents[i, t]))
                errors[b, t, k, i] = wrong / np.linalg.norm(true - image)

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
# Above: a digit, blurred by one pixel, and its six tangents: ink comes where they are red and goes
# where they are blue. Below: one of them, turning, over a, and the error over a.

figure = plt.figure(figsize=(13, 7.2), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.25])
sigma = blurs[1]
index = 3
image = GaussianBlur((size, size), sigma).fit_transform(sharp)[index]
tangents = ImageTangents((size, size), transforms=names)(image[np.newaxis])[0]

top.suptitle("A digit, its six tangents τ, and the digit after a step of two pixels along each")
axes = top.subplots(2, 7)
gray = {"cmap": "gray_r", "vmin": 0, "vmax": 1}
axes[0, 0].imshow(image, **gray)
axes[0, 0].set_title("the digit x", fontsize=10)
axes[1, 0].axis("off")
axes[1, 0].text(0.5, 0.5, "x + 2 τ", ha="center", transform=axes[1, 0].transAxes)
for column, tangent, label in zip(axes.T[1:], tangents, labels, strict=True):
    limit = np.abs(tangents).max()
    column[0].imshow(tangent, cmap="RdBu_r", vmin=-limit, vmax=limit)
    column[0].set_title(label, fontsize=10)
    column[1].imshow(image + 2 * tangent, **gray)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])

left, right = bottom.subfigures(1, 2, width_ratios=[1.75, 1])
turned = [-6, -4, -2, 0, 2, 4, 6]
left.suptitle("Turned by a pixels at the border")
axes = left.subplots(3, len(turned))
turn = names.index("rotation")
for column, amount in zip(axes.T, turned, strict=True):
    true = transform(image, "rotation", amount)
    guess = image + amount * tangents[turn]
    column[0].set_title(f"a = {amount}", fontsize=10)
    column[0].imshow(true, **gray)
    column[1].imshow(guess, **gray)
    column[2].imshow(guess - true, cmap="RdBu_r", vmin=-0.6, vmax=0.6)
for row, label in zip(axes, ["the truth", "x + a τ", "difference"], strict=True):
    row[0].set_ylabel(label, fontsize=10)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])

ax = right.subplots()
for b, (sigma, color) in enumerate(zip(blurs, ["0.6", "tab:blue", "navy"], strict=True)):
    low, middle, high = np.quantile(errors[b].mean(axis=0), [0.1, 0.5, 0.9], axis=-1)
    label = f"blurred by {sigma:g} pixel{'s' * (sigma > 1)}" if sigma else "not blurred"
    ax.fill_between(amounts, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(amounts, middle, color=color, label=label)
ax.axhline(1, color="0.4", linewidth=1, linestyle=":")
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
