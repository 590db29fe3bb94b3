"""Time of six image tangents against one Gaussian derivative filter in x and y.

Both see the same 10,000 images of 28 x 28.
The rounds of the two alternate in one process; the figure is the ratio of their medians.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
from scipy.ndimage import gaussian_filter

from sktangent.tangents import ImageTangents

N_IMAGES, SIDE, SIGMA = 10_000, 28, 1.0
N_ROUNDS = 7


def derivative_filters(X):
    images = X.reshape(-1, SIDE, SIDE)
    dx = gaussian_filter(images, sigma=(0, SIGMA, SIGMA), order=(0, 0, 1), mode="nearest")
    dy = gaussian_filter(images, sigma=(0, SIGMA, SIGMA), order=(0, 1, 0), mode="nearest")
    return dx, dy


def seconds(function, X):
    start = time.perf_counter()
    function(X)
    return time.perf_counter() - start


def compare(X):
    tangents = ImageTangents(image_shape=(SIDE, SIDE), smoothing=SIGMA)
    times = [(seconds(tangents, X), seconds(derivative_filters, X)) for _ in range(N_ROUNDS)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def main():
    for dtype in (np.float32, np.float64):
        X = np.random.default_rng(0).random((N_IMAGES, SIDE * SIDE)).astype(dtype)
        ours, filters = compare(X)
        print(
            f"{np.dtype(dtype).name}: six tangents {ours:.3f} s, derivative filters "
            f"{filters:.3f} s, ratio {ours / filters:.2f}"
        )


if __name__ == "__main__":
    main()
