"""Tangents of images: shifts, rotations, deformations, thickness and light."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from sktangent._checks import check_names, check_nonnegative, check_reach
from sktangent._frames import ImageFrame, blur, differentiate
from sktangent.tangents._base import BaseTangents
from sktangent.tangents._resampling import resample, resample_near

# Displacement (to the right, downwards) of the content at the coordinates u (to the right) and
# v (downwards), both from -1 to 1 along the longer side of the frame.
_DISPLACEMENTS: dict[str, Callable] = {
    "translation_x": lambda u, v: (1, 0),
    "translation_y": lambda u, v: (0, 1),
    "rotation": lambda u, v: (v, -u),
    "scaling": lambda u, v: (u, v),
    "hyperbolic_axis": lambda u, v: (u, -v),
    "hyperbolic_diagonal": lambda u, v: (v, u),
}
# Tangents that move nothing by a fixed map, from images and their slopes, each of shape
# (n_samples, n_channels, height, width).
_INTENSITY_CHANGES: dict[str, Callable] = {
    "thickening": lambda image, dx, dy: dx**2 + dy**2,
    "brightness": lambda image, dx, dy: 1,
    "contrast": lambda image, dx, dy: image - image.mean(axis=(1, 2, 3), keepdims=True),
}
_AFFINE = tuple(_DISPLACEMENTS)
_TRANSFORMS = (*_DISPLACEMENTS, *_INTENSITY_CHANGES)
# Pixels worked on at once: a few arrays of this size stay in a processor's cache.
_CHUNK_PIXELS = 2**15


class ImageTangents(BaseTangents):
    r"""Directions in which images move, turn, stretch, thicken or change their light.

    The tangent of a transformation T is :math:`\tau = \partial T_a(I) / \partial a` at
    :math:`a = 0`, so that :math:`I + a \tau` is the transformed image for a small a. With
    :math:`I_x, I_y` the slopes of the image to the right and downwards, the tangent of a
    transformation that moves the content by :math:`a (g_x, g_y)` is
    :math:`\tau = -(g_x I_x + g_y I_y)`. The coordinates u (to the right) and v (downwards)
    are zero at the centre of the frame and one at the outermost pixels of its longer side.

    ======================= ========================== =========================================
    name                    tangent                    for a > 0 the content
    ======================= ========================== =========================================
    ``translation_x``       :math:`-I_x`               moves to the right
    ``translation_y``       :math:`-I_y`               moves down (to higher row numbers)
    ``rotation``            :math:`-(v I_x - u I_y)`   turns counterclockwise as displayed with
                                                       row 0 on top
    ``scaling``             :math:`-(u I_x + v I_y)`   grows
    ``hyperbolic_axis``     :math:`-(u I_x - v I_y)`   gets wider and flatter
    ``hyperbolic_diagonal`` :math:`-(v I_x + u I_y)`   is stretched along the diagonal from the
                                                       upper left to the lower right, squeezed
                                                       along the other
    ``thickening``          :math:`I_x^2 + I_y^2`      has its bright strokes thicker
    ``brightness``          :math:`1`                  is brighter by a, everywhere
    ``contrast``            :math:`I - \bar I`         departs more from its mean
    ======================= ========================== =========================================

    ``move`` goes as far as it is told. The affine generators of a sample, each times its amount,
    add up to one matrix A on :math:`(u, v, 1)`; the content moves by :math:`e^A` and is looked
    up, once, where it came from, at :math:`e^{-A} (u, v, 1)`. So moving by a and then by b along
    one generator is moving by a + b. Changes of intensity follow, in the order of ``transforms``:
    thickening looks the image up at :math:`p + a \nabla I(p)`, brightness adds a, and contrast
    multiplies the departure from the mean by :math:`e^a`.

    The first six span the affine maps of the plane. Their unit is a displacement of one pixel,
    which turning and stretching reach at the outermost pixels of the longer side; with
    :math:`r = (\max(\text{height}, \text{width}) - 1) / 2` a unit of rotation is :math:`1/r`
    radians, and a unit of scaling a growth by :math:`1/r`. Thickening moves each place of the
    image by its slope, in intensity per pixel: it is quadratic in the image, so scale the
    intensities to about [0, 1] beforehand to have displacements of about a pixel. A unit of
    brightness is one unit of intensity; a hundredth of a unit of contrast raises by a hundredth the
    departure from the mean :math:`\bar I` of the image over all pixels and channels.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width), (n_channels, height, width) or (height, width, n_channels).
    transforms : str or sequence of str, default=the six affine ones
        Names of the table above, in the order of the tangents.
    smoothing : float, default=0.0
        Standard deviation, in pixels, of a Gaussian that blurs the image first: the tangents are
        those of the blurred image, exactly what ``ImageTangents(..., smoothing=0)`` gives for
        ``GaussianBlur(image_shape, smoothing).transform(X)``. Leave it at 0 where the model sees
        the images as they are given here; see the notes.
    channels : {"auto", "first", "last"}, default="auto"
        Which axis of a three-part ``image_shape`` holds the channels. ``"auto"`` takes the one
        end that has between 1 and 4 entries, and is an error where both or neither have.
        Channels move together; of a two-part ``image_shape`` it says nothing.

    See Also
    --------
    sktangent.preprocessing.GaussianBlur : The same blur, of the images themselves.

    Notes
    -----
    The slopes of a sampled image are those of the cubic spline that interpolates it. So
    :math:`\tau` is the exact derivative of resampling by cubic spline interpolation
    (:func:`scipy.ndimage.affine_transform` with ``order=3``). Against the continuous image
    itself, the slope of a wave of angular frequency ω per pixel is off by about ω⁴/180 of it.

    Beyond the border an image keeps the values of its outermost pixels, first for
    the blur and then for the spline. Where an image goes on behind the border, the error that
    the spline makes there shrinks about fourfold with every pixel inwards. ``move`` resamples by
    that same spline, and so brings the border's values in from outside. Shifts by whole pixels
    are exact; opposite moves undo each other as far as the spline is the image, and what has
    not left the frame. An amount that would carry the content across the whole frame is refused;
    of rotation, one of more than a whole turn.

    A tangent is the derivative of what the model sees. Sharp strokes follow their tangent for a
    fraction of a pixel only, so blur the images that the model sees
    (:class:`~sktangent.preprocessing.GaussianBlur` in front of the estimator) and leave
    ``smoothing`` at 0. With ``smoothing`` the tangents are smooth and the images stay sharp,
    which makes them derivatives of other images than the model's; ``move`` then carries the
    blurred image along and leaves in place what the blur took away, as the tangents say.

    Integer and boolean images are computed in float64.

    References
    ----------
    .. [1] P. Simard, Y. LeCun, J. Denker, B. Victorri. Transformation invariance in pattern
       recognition - tangent distance and tangent propagation. In: Neural Networks: Tricks of
       the Trade, LNCS 1524, 239-274, 1998.
    .. [2] P. Simard, B. Victorri, Y. LeCun, J. Denker. Tangent Prop - a formalism for
       specifying selected invariances in an adaptive network. NIPS 4, 895-903, 1991.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktangent.tangents import ImageTangents
    >>> X = load_digits().data / 16
    >>> ImageTangents(image_shape=(8, 8))(X).shape
    (1797, 6, 64)

    An image whose intensity rises by 2 a pixel to the right falls by 2 everywhere but near the
    border when its content moves one pixel to the right:

    >>> ramp = [[2.0 * column for column in range(28)]] * 28
    >>> shift = ImageTangents((28, 28), transforms="translation_x")([ramp])
    >>> shift.shape
    (1, 1, 28, 28)
    >>> float(shift[0, 0, 14, 14].round(6))
    -2.0

    A quarter of a turn is :math:`13.5 \cdot \pi / 2` units of a frame of 28 pixels:

    >>> import numpy as np
    >>> turned = ImageTangents((28, 28), "rotation").move([ramp], [[13.5 * np.pi / 2]])
    >>> bool(np.allclose(turned[0], np.rot90(ramp)))
    True
    """

    _combines_first = True

    def __init__(
        self,
        image_shape: Sequence[int],
        transforms: str | Sequence[str] = _AFFINE,
        smoothing: float = 0.0,
        channels: str = "auto",
    ):
        self.image_shape = image_shape
        self.transforms = transforms
        self.smoothing = smoothing
        self.channels = channels

    def tangent_names(self, X: ArrayLike) -> list[str]:
        """Name the transformation that each tangent belongs to: ``transforms``, as a list.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels) or (n_samples, *image_shape)
            Ignored.

        Returns
        -------
        names : list of str
            One for each tangent.

        Raises
        ------
        TypeError, ValueError
            If ``transforms`` is not as described.
        """
        return check_names(self.transforms, _TRANSFORMS, "transforms")

    def _tangents(self, X: np.ndarray) -> np.ndarray:
        frame, names, sigma = self._check(X)
        V = np.empty((len(X), len(names), *X.shape[1:]), dtype=X.dtype)
        images, tangents = frame.planes(X), frame.planes(V, n_leading=2)
        u, v = _coordinates(frame, X.dtype)
        for chunk in _chunks(X):
            image = blur(np.ascontiguousarray(images[chunk]), sigma)
            dx, dy = differentiate(image)
            for t, name in enumerate(names):
                if name in _DISPLACEMENTS:
                    _displace(dx, dy, *_DISPLACEMENTS[name](u, v), out=tangents[chunk, t])
                else:
                    tangents[chunk, t] = _INTENSITY_CHANGES[name](image, dx, dy)
        return V

    def _combine(self, X: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
        frame, names, sigma = self._check(X)
        V = np.empty((*coefficients.shape[:2], *X.shape[1:]), dtype=X.dtype)
        images, combinations = frame.planes(X), frame.planes(V, n_leading=2)
        coefficients = coefficients.astype(X.dtype)
        fields = _displacement_fields(frame, names, X.dtype)
        for chunk in _chunks(X):
            image = blur(np.ascontiguousarray(images[chunk]), sigma)
            dx, dy = differentiate(image)
            to_right, downwards = (coefficients[chunk] @ field for field in fields)
            shape = (*to_right.shape[:2], 1, frame.height, frame.width)
            out = combinations[chunk]
            _displace(
                dx[:, np.newaxis],
                dy[:, np.newaxis],
                to_right.reshape(shape),
                downwards.reshape(shape),
                out=out,
            )
            for t, name in enumerate(names):
                if name in _INTENSITY_CHANGES:
                    change = np.asarray(_INTENSITY_CHANGES[name](image, dx, dy), dtype=X.dtype)
                    factors = coefficients[chunk, :, t]
                    out += factors[..., *[np.newaxis] * 3] * np.atleast_1d(change)[:, np.newaxis]
        return V

    def _move(self, X: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        frame, names, sigma = self._check(X)
        by_name = dict(zip(names, amounts.T, strict=True))
        _check_amounts(by_name, frame)
        by_name = {name: column for name, column in by_name.items() if column.any()}
        if not by_name:
            return X.copy()
        images = np.ascontiguousarray(frame.planes(X))
        smooth = blur(images, sigma)
        planes = smooth
        if not _DISPLACEMENTS.keys().isdisjoint(by_name):
            planes = resample(planes, _sources(by_name, frame))
        for name, column in by_name.items():
            if name in _INTENSITY_CHANGES:
                factors = column.astype(X.dtype)[:, *[np.newaxis] * 3]
                planes = _INTENSITY_MOVES[name](planes, factors)
        # What the blur takes away has no part in the tangents, and stays where it is.
        moved = planes if sigma == 0 else images + (planes - smooth)
        return frame.images(moved).reshape(X.shape)

    def _check(self, X: np.ndarray) -> tuple[ImageFrame, list[str], float]:
        frame = ImageFrame.from_parameters(self.image_shape, self.channels)
        names = self.tangent_names(X)
        sigma = check_nonnegative(self.smoothing, "smoothing")
        frame.check_images(X)
        return frame, names, sigma


def _chunks(X: np.ndarray) -> Iterator[slice]:
    step = max(1, _CHUNK_PIXELS // X[0].size)
    return (slice(start, start + step) for start in range(0, len(X), step))


def _half(frame: ImageFrame) -> float:
    """Return how far the outermost pixels of the longer side are from the centre."""
    return max(frame.height, frame.width, 2) / 2 - 0.5


def _coordinates(frame: ImageFrame, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return u as a row and v as a column, from the centre of the frame, in half longer sides."""
    half = _half(frame)
    u = (np.arange(frame.width) - (frame.width - 1) / 2) / half
    v = (np.arange(frame.height) - (frame.height - 1) / 2) / half
    return u[np.newaxis, :].astype(dtype), v[:, np.newaxis].astype(dtype)


def _displace(
    dx: np.ndarray, dy: np.ndarray, to_right: ArrayLike, downwards: ArrayLike, out: np.ndarray
) -> None:
    """Write the tangent of a displacement into ``out``."""
    np.subtract(dx * np.negative(to_right), dy * downwards, out=out)


def _displacement_fields(
    frame: ImageFrame, names: list[str], dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Return the displacements to the right and downwards, (n_tangents, n_pixels) each."""
    coordinates = _coordinates(frame, dtype)
    fields = np.zeros((2, len(names), frame.height, frame.width), dtype=dtype)
    for t, name in enumerate(names):
        if name in _DISPLACEMENTS:
            for field, displacement in zip(fields, _DISPLACEMENTS[name](*coordinates), strict=True):
                field[t] = displacement
    return tuple(fields.reshape(2, len(names), -1))


def _sources(by_name: dict[str, np.ndarray], frame: ImageFrame) -> np.ndarray:
    r"""Return the maps from moved pixels to the places that their content came from.

    The generators are linear in (u, v, 1), so those of a sample add up to one matrix A, and its
    content moves by :math:`e^A`, comes from :math:`e^{-A}`.

    Returns
    -------
    maps : ndarray of shape (n_samples, 2, 3)
        From (x, y, 1) to x and y, in pixels from the first one.
    """
    names = tuple(name for name in by_name if name in _DISPLACEMENTS)
    amounts = np.stack([by_name[name] for name in names], axis=1)
    generators = np.zeros((len(amounts), 3, 3))
    generators[:, :2] = (amounts @ _linear_parts(names) / -_half(frame)).reshape(-1, 2, 3)
    maps = _exponentials(generators)[:, :2]
    centre = np.array([frame.width - 1, frame.height - 1]) / 2
    maps[:, :, 2] = maps[:, :, 2] * _half(frame) + centre - maps[:, :, :2] @ centre
    return maps


def _exponentials(matrices: np.ndarray) -> np.ndarray:
    """Return the exponentials of small matrices.

    Each is a Taylor series, squared as often as the largest of the matrices needs. Of a batch
    torch's took a tenth of the time that it took to move it.
    """
    n_squarings = max(0, math.frexp(8 * np.abs(matrices).sum(axis=2).max())[1])
    A = np.ldexp(matrices, -n_squarings)
    square, one = A @ A, np.eye(A.shape[1])
    cube = square @ A
    # up to the ninth power, which at a norm of an eighth leaves 3e-16
    low, middle, high = (
        one / math.factorial(k) + A / math.factorial(k + 1) + square / math.factorial(k + 2)
        for k in (0, 3, 6)
    )
    result = low + cube @ (middle + cube @ (high + cube / math.factorial(9)))
    for _ in range(n_squarings):
        result = result @ result
    return result


@lru_cache
def _linear_parts(names: tuple[str, ...]) -> np.ndarray:
    """Return the displacements' coefficients of (u, v, 1), to the right and downwards, in rows."""
    return np.stack([_linear_part(name).ravel() for name in names])


def _linear_part(name: str) -> np.ndarray:
    """Return the displacement's coefficients of (u, v, 1), to the right and downwards."""
    displacement = _DISPLACEMENTS[name]
    at_centre = np.array(displacement(0, 0))
    slopes = [np.array(displacement(*place)) - at_centre for place in ((1, 0), (0, 1))]
    return np.stack([*slopes, at_centre], axis=1)


def _thickened(planes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    dx, dy = differentiate(planes)
    return resample_near(planes, factors * dx, factors * dy)


def _contrasted(planes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    mean = planes.mean(axis=(1, 2, 3), keepdims=True)
    return mean + np.exp(factors) * (planes - mean)


def _check_amounts(by_name: dict[str, np.ndarray], frame: ImageFrame) -> None:
    longer = max(frame.height, frame.width)
    limits = dict.fromkeys(_DISPLACEMENTS, longer)
    limits |= {"translation_x": frame.width, "translation_y": frame.height}
    for name, amounts in by_name.items():
        if name == "rotation":
            # A turn leaves the frame full, however far it goes; more than a whole one is a mistake.
            whole = 2 * np.pi * _half(frame) * (1 + 1e-9)
            check_reach(amounts, whole, name, of_limit="a whole turn")
        elif name in limits:
            check_reach(amounts, limits[name], name)


# What intensity changes make of planes by finite amounts, each of shape (n_samples, 1, 1, 1).
_INTENSITY_MOVES: dict[str, Callable] = {
    "thickening": _thickened,
    "brightness": lambda planes, factors: planes + factors,
    "contrast": _contrasted,
}
