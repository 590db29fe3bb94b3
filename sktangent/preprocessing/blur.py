"""A Gaussian blur of images, as a transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data

from sktangent._checks import SAMPLES, check_nonnegative, validating
from sktangent._frames import ImageFrame, blur
from sktangent._html import DocumentationLink


class GaussianBlur(DocumentationLink, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Blur images with a Gaussian, so that small motions change them smoothly.

    The tangent of a motion predicts what the motion does to an image over about the width of
    its edges. Behind this blur the model sees images whose edges are that wide.

    The blur is linear: a tangent :math:`\tau` of the sharp image becomes the tangent
    :math:`B \tau` of the blurred one, which is ``transform(tau)`` itself.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width), (n_channels, height, width) or (height, width, n_channels).
    sigma : float, default=1.0
        Standard deviation of the Gaussian in pixels; 0 leaves the images as they are.
    channels : {"auto", "first", "last"}, default="auto"
        Which axis of a three-part ``image_shape`` holds the channels. ``"auto"`` takes the one
        end that has between 1 and 4 entries, and is an error where both or neither have.
        Each channel is blurred by itself.

    Attributes
    ----------
    n_features_in_ : int
        Length of the second axis of X in :meth:`fit`: the number of pixels of flat images.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns in :meth:`fit`, if all of them are strings.

    See Also
    --------
    sktangent.tangents.ImageTangents : Tangents of images, of blurred ones as well.

    Notes
    -----
    The weights are those of :func:`scipy.ndimage.gaussian_filter` with ``mode="nearest"``:
    beyond the border an image keeps the values of its outermost pixels, and the Gaussian is cut
    at four standard deviations. Integer and boolean images come out as float64; float32 stays
    float32.

    Nothing is learned: :meth:`transform` works without :meth:`fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from sktangent.preprocessing import GaussianBlur
    >>> dot = np.zeros((1, 5, 5))
    >>> dot[0, 2, 2] = 1
    >>> GaussianBlur(image_shape=(5, 5), sigma=0.5).fit_transform(dot)[0, 2].round(3)
    array([0.   , 0.084, 0.619, 0.084, 0.   ])
    """

    def __init__(
        self, image_shape: Sequence[int], sigma: float = 1.0, channels: str = "auto"
    ) -> None:
        self.image_shape = image_shape
        self.sigma = sigma
        self.channels = channels

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Check the parameters and X; nothing is learned.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels) or (n_samples, *image_shape)
            Images.
        y : None
            Ignored.

        Returns
        -------
        self : GaussianBlur
            The transformer itself.

        Raises
        ------
        TypeError, ValueError
            As :meth:`transform`.
        """
        self._check(X, reset=True)
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Blur images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels) or (n_samples, *image_shape)
            Images.

        Returns
        -------
        blurred : ndarray of the shape of X
            The blurred images, always in memory of their own.

        Raises
        ------
        TypeError
            If X is sparse, or a parameter has the wrong type.
        ValueError
            If X is empty, holds NaN or infinity or does not have the image's shape, or a
            parameter has a value outside its range.
        """
        X, frame, sigma = self._check(X, reset=False)
        blurred = np.empty(X.shape, dtype=X.dtype)
        frame.planes(blurred)[...] = blur(np.ascontiguousarray(frame.planes(X)), sigma)
        return blurred

    def _check(self, X: ArrayLike, reset: bool) -> tuple[np.ndarray, ImageFrame, float]:
        frame = ImageFrame.from_parameters(self.image_shape, self.channels)
        sigma = check_nonnegative(self.sigma, "sigma")
        with validating(X, "X"):
            X = validate_data(self, X, reset=reset, **SAMPLES)
        frame.check_images(X)
        return X, frame, sigma

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
