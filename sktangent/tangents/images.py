"""Tangents of images: shifts, rotations, deformations, thickness and light."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from sktangent._checks import check_names, check_nonnegative
from sktangent._frames import ImageFrame, blur, differentiate
from sktangent.tangents._base import BaseTangents

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

    The first six span the affine maps of the plane. Their unit is a displacement of one pixel,
    which turning and stretching reach at the outermost pixels of the longer side; with
    :math:`r = (\max(\text{height}, \text{width}) - 1) / 2` a unit of rotation is :math:`1/r`
    radians, and a unit of scaling a growth by :math:`1/r`. Thickening moves each place of the
    image by its slope, in intensity per pixel: it is quadratic in the image, so scale the
    intensities to about [0, 1] beforehand to have displacements of about a pixel. A unit of
    brightness is one unit of intensity; a unit of contrast doubles the departure from the mean
    :math:`\bar I` of the image over all pixels and channels.

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
    the spline makes there shrinks about fourfold with every pixel inwards.

    A tangent is the derivative of what the model sees. Sharp strokes follow their tangent for a
    fraction of a pixel only, so blur the images that the model sees
    (:class:`~sktangent.preprocessing.GaussianBlur` in front of the estimator) and leave
    ``smoothing`` at 0. With ``smoothing`` the tangents are smooth and the images stay sharp,
    which makes them derivatives of other images than the model's.

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
    """

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

    def _tangents(self, X: np.ndarray) -> np.ndarray:
        frame = ImageFrame.from_parameters(self.image_shape, self.channels)
        names = check_names(self.transforms, _TRANSFORMS, "transforms")
        sigma = check_nonnegative(self.smoothing, "smoothing")
        frame.check_images(X)

        V = np.empty((len(X), len(names), *X.shape[1:]), dtype=X.dtype)
        images, tangents = frame.planes(X), frame.planes(V, n_leading=2)
        u, v = _coordinates(frame, X.dtype)
        step = max(1, _CHUNK_PIXELS // X[0].size)
        for start in range(0, len(X), step):
            chunk = slice(start, start + step)
            image = blur(np.ascontiguousarray(images[chunk]), sigma)
            dx, dy = differentiate(image)
            for t, name in enumerate(names):
                if name in _DISPLACEMENTS:
                    _displace(dx, dy, *_DISPLACEMENTS[name](u, v), out=tangents[chunk, t])
                else:
                    tangents[chunk, t] = _INTENSITY_CHANGES[name](image, dx, dy)
        return V


def _coordinates(frame: ImageFrame, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return u as a row and v as a column, from the centre of the frame, in half longer sides."""
    half = max(frame.height, frame.width, 2) / 2 - 0.5
    u = (np.arange(frame.width) - (frame.width - 1) / 2) / half
    v = (np.arange(frame.height) - (frame.height - 1) / 2) / half
    return u[np.newaxis, :].astype(dtype), v[:, np.newaxis].astype(dtype)


def _displace(
    dx: np.ndarray, dy: np.ndarray, to_right: ArrayLike, downwards: ArrayLike, out: np.ndarray
) -> None:
    """Write the tangent of a displacement into ``out``."""
    np.subtract(dx * np.negative(to_right), dy * downwards, out=out)
