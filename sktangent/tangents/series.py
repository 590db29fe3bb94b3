"""Tangents of signals and spectra: shifts, stretches, warps, baselines and gains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import validate_data

from sktangent._checks import (
    SAMPLES,
    check_count,
    check_names,
    check_nonnegative,
    check_numbers,
    check_reach,
    validating,
)
from sktangent.tangents._base import BaseTangents
from sktangent.tangents._setting import ADDITIONS, DISPLACEMENTS, SignalSetting, blurred
from sktangent.tangents._signals import flow_back, gaussian, interpolate

_TRANSFORMS = (*DISPLACEMENTS, *ADDITIONS, "gain", "scatter")


class SeriesTangents(BaseTangents):
    r"""Directions in which signals and spectra move, stretch, drift or scale.

    The tangent of a transformation T is :math:`\tau = \partial T_a(x) / \partial a` at
    :math:`a = 0`, so that :math:`x + a \tau` is the transformed signal for a small a. With
    :math:`x'` the slope of the signal per sample step, the tangent of a transformation that
    moves the content by :math:`a g` towards later samples is :math:`\tau = -g x'`. The
    coordinate s runs from 0 at the first sample to 1 at the last, and :math:`u = 2 s - 1`
    from -1 to 1.

    ============= ============================ ================================================
    name          tangent                      for a > 0 the signal
    ============= ============================ ================================================
    ``shift``     :math:`-x'`                  moves towards later samples
    ``stretch``   :math:`-u x'`                gets longer, from the middle
    ``warp``      :math:`-\sin(k \pi s) x'`,   moves towards later samples where the sine is
                  k = 1 ... ``n_warps``        positive and back where it is negative; its ends
                                               stay
    ``offset``    :math:`1`                    is higher by a, everywhere
    ``slope``     :math:`u`                    is tilted, up at its end
    ``curvature`` :math:`(3 u^2 - 1) / 2`      is bent, up at both ends
    ``gain``      :math:`x`                    is multiplied by :math:`e^a`
    ``scatter``   :math:`x - \alpha(x)`        is multiplied by :math:`e^a` about the offset that
                                               scatter correction finds in it
    ============= ============================ ================================================

    The unit of the first three is a displacement of one sample step: everywhere, at both ends,
    and where the sine is one. The unit of the next three is one unit of the signal: everywhere
    or at the ends. They are the first three Legendre polynomials, which do not lean on one
    another, and span the parabolic baselines. A hundredth of a unit of gain raises the signal by a
    hundredth, and of scatter its departure from :math:`\alpha`.

    ``move`` goes as far as it is told. The displacements add up to one velocity,
    :math:`g = \sum_t a_t g_t`, by which the content flows for a unit of time; the moved
    signal is looked up, once, where its content came from. What the other transformations do
    to intensities follows, in the order of ``transforms``.

    Multiplicative scatter correction [1]_ fits :math:`x \approx \alpha + \beta r` to a
    spectrum by least squares, r being a reference, and goes on with
    :math:`(x - \alpha) / \beta`. Two changes of x leave that result as it is: of
    :math:`\alpha`, by ``offset``, and of :math:`\beta` with :math:`\alpha` kept,
    :math:`T_a(x) = \alpha + e^a (x - \alpha)`, by ``scatter``. With the tangents of both a
    model learns to do without the correction. Adding ``slope`` and ``curvature`` goes as far as
    its extension by a baseline [2]_.

    Parameters
    ----------
    transforms : str or sequence of str, default=("shift", "stretch", "warp")
        Names of the table above, in the order of the tangents; ``"warp"`` gives ``n_warps``.
    smoothing : float, default=0.0
        Standard deviation, in sample steps, of a Gaussian that blurs the signal first: the
        tangents are those of the blurred signal, and of the blurred reference. See the notes.
    positions : array-like of shape (length,), default=None
        Where the samples were taken: times or wavelengths, increasing or decreasing. None:
        at equal steps. A sample step is then their mean step.
    n_warps : int, default=3
        How many sines ``"warp"`` takes.
    reference : array-like of shape (length,) or of one sample, default=None
        The spectrum r of ``"scatter"``; None takes the mean of the samples in :meth:`fit`.
    n_channels : int, default=1
        Of samples that come as one row each, how many channels lie in it one behind the other.
        Where samples have an axis of channels it says nothing.

    Attributes
    ----------
    reference_ : ndarray of the shape of a sample
        The mean of the samples in :meth:`fit`, or ``reference``.
    n_features_in_ : int
        Length of the second axis of X in :meth:`fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns in :meth:`fit`, if all of them are strings.

    See Also
    --------
    TransformTangents : Tangents of any transformation that you can write down.

    Notes
    -----
    Samples have the shape (length,), (n_channels, length) or, with ``n_channels``,
    (n_channels * length,). The channels move together: each transformation acts on all of them
    by the same amount, and has one tangent. In ``"scatter"`` each channel has its own
    :math:`\alpha`.

    Only ``"scatter"`` without a ``reference`` needs :meth:`fit`.

    The slopes of a sampled signal are those of the cubic spline through it, so that
    :math:`\tau` is the exact derivative of resampling by cubic spline interpolation. On
    equal steps their error on a wave of angular frequency ω per sample is ω⁴/180 of the slope.
    Beyond its ends a signal keeps its last value, first for the blur and then for the spline.
    Where the true signal goes on differently, the error that this makes shrinks about fourfold
    with every sample inwards. ``move`` resamples by that same spline, and brings the last value in
    from beyond an end. Opposite moves undo each other as far as the spline is the signal, and
    what has not left the frame.

    A tangent is the derivative of what the model sees. Sharp or noisy signals follow their
    tangent for a fraction of a sample only. So smooth the signals that the model sees, and
    leave ``smoothing`` at 0: :class:`~sktangent.preprocessing.GaussianBlur` with
    ``image_shape=(1, length)`` does what ``smoothing`` does at equal steps. With ``smoothing``,
    ``move`` carries the blurred signal along and leaves in place what the blur took away, as
    the tangents say.

    References
    ----------
    .. [1] P. Geladi, D. MacDougall, H. Martens. Linearization and scatter-correction for
       near-infrared reflectance spectra of meat. Applied Spectroscopy 39 (3), 491-500, 1985.
    .. [2] H. Martens, E. Stark. Extended multiplicative signal correction and spectral
       interference subtraction. Journal of Pharmaceutical and Biomedical Analysis 9 (8),
       625-635, 1991.
    .. [3] P. Simard, Y. LeCun, J. Denker, B. Victorri. Transformation invariance in pattern
       recognition - tangent distance and tangent propagation. In: Neural Networks: Tricks of
       the Trade, LNCS 1524, 239-274, 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from sktangent.tangents import SeriesTangents
    >>> t = np.arange(100.0)
    >>> bump = np.exp(-0.5 * ((t - 50) / 8) ** 2)
    >>> V = SeriesTangents()(bump[np.newaxis])
    >>> V.shape
    (1, 5, 100)

    Moved by half a sample, the bump is where its tangent says:

    >>> moved = np.exp(-0.5 * ((t - 50.5) / 8) ** 2)
    >>> print(f"{abs(moved - bump).max():.4f} {abs(moved - bump - 0.5 * V[0, 0]).max():.4f}")
    0.0379 0.0020

    Moved by ten, which its tangent is too short for:

    >>> moved = SeriesTangents("shift").move(bump[np.newaxis], [[10.0]])[0]
    >>> bool(np.allclose(moved, np.exp(-0.5 * ((t - 60) / 8) ** 2), atol=1e-6))
    True

    A spectrum on a parabolic baseline, with a gain, sampled at unequal wavelengths:

    >>> baseline = SeriesTangents(
    ...     transforms=("offset", "slope", "curvature", "gain"), positions=[400, 500, 700, 800]
    ... )
    >>> baseline([[1.0, 3.0, 2.0, 0.0]])[0]
    array([[ 1.  ,  1.  ,  1.  ,  1.  ],
           [-1.  , -0.5 ,  0.5 ,  1.  ],
           [ 1.  , -0.125, -0.125,  1.  ],
           [ 1.  ,  3.  ,  2.  ,  0.  ]])
    """

    _combines_first = True

    def __init__(
        self,
        transforms: str | Sequence[str] = DISPLACEMENTS,
        smoothing: float = 0.0,
        positions: ArrayLike | None = None,
        n_warps: int = 3,
        reference: ArrayLike | None = None,
        n_channels: int = 1,
    ):
        self.transforms = transforms
        self.smoothing = smoothing
        self.positions = positions
        self.n_warps = n_warps
        self.reference = reference
        self.n_channels = n_channels

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Learn the reference of ``"scatter"``; all else works without.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples.
        y : None
            Ignored.

        Returns
        -------
        self : SeriesTangents
            The tangents themselves.

        Raises
        ------
        TypeError, ValueError
            As the call.
        """
        with validating(X, "X"):
            X = validate_data(self, X, **SAMPLES)
        _as_signals(X, check_count(self.n_channels, "n_channels"))
        given = self.reference is not None
        self.reference_ = np.asarray(self.reference) if given else X.mean(axis=0)
        return self

    def tangent_names(self, X: ArrayLike) -> list[str]:
        """Name the transformation that each tangent belongs to; ``"warp"`` has several.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            Ignored.

        Returns
        -------
        names : list of str
            One for each tangent.

        Raises
        ------
        TypeError, ValueError
            If ``transforms`` or ``n_warps`` is not as described.
        """
        names = check_names(self.transforms, _TRANSFORMS, "transforms")
        n_warps = check_count(self.n_warps, "n_warps")
        return [name for name in names for _ in range(n_warps if name == "warp" else 1)]

    def _tangents(self, X: np.ndarray) -> np.ndarray:
        setting = self._setting(X)
        n_tangents = len(setting.names)
        V = np.empty((len(X), n_tangents, *X.shape[1:]), dtype=X.dtype)
        tangents = V.reshape(len(X), n_tangents, *setting.signals.shape[1:])
        for chunk in setting.chunks():
            x = blurred(setting.signals[chunk], setting.blur)
            dx = setting.slopes(x)
            for t, (name, pattern) in enumerate(setting.patterns()):
                if name in DISPLACEMENTS:
                    np.multiply(dx, -pattern, out=tangents[chunk, t])
                elif name in ADDITIONS:
                    tangents[chunk, t] = pattern
                else:
                    tangents[chunk, t] = x if name == "gain" else x - setting.intercepts(x)
        return V

    def _combine(self, X: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
        setting = self._setting(X)
        V = np.empty((*coefficients.shape[:2], *X.shape[1:]), dtype=X.dtype)
        combinations = V.reshape(*coefficients.shape[:2], *setting.signals.shape[1:])
        coefficients = coefficients.astype(X.dtype)
        displacements, additions = (setting.fields(kinds) for kinds in (DISPLACEMENTS, ADDITIONS))
        for chunk in setting.chunks():
            c, out = coefficients[chunk], combinations[chunk]
            x = blurred(setting.signals[chunk], setting.blur)[:, np.newaxis]
            dx = setting.slopes(x[:, 0])
            out[...] = (c @ additions)[:, :, np.newaxis]
            if dx is not None:
                out -= dx[:, np.newaxis] * (c @ displacements)[:, :, np.newaxis]
            for t, name in enumerate(setting.names):
                factors = c[:, :, t, np.newaxis, np.newaxis]
                if name == "gain":
                    out += factors * x
                elif name == "scatter":
                    out += factors * (x - setting.intercepts(x[:, 0])[:, np.newaxis])
        return V

    def _move(self, X: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        setting = self._setting(X)
        for name in DISPLACEMENTS:
            chosen = amounts[:, [other == name for other in setting.names]]
            check_reach(chosen, setting.signals.shape[-1], name, of_limit="the length")
        smooth = blurred(setting.signals, setting.blur)
        moved = smooth
        moving = np.array(setting.names)[amounts.any(axis=0)]
        if not set(DISPLACEMENTS).isdisjoint(moving):
            moved = interpolate(moved, setting.positions, self._sources(setting, amounts))
        for t, (name, pattern) in enumerate(setting.patterns()):
            by = amounts[:, t, np.newaxis, np.newaxis].astype(X.dtype)
            if name in ADDITIONS:
                moved = moved + by * pattern
            elif name == "gain":
                moved = np.exp(by) * moved
            elif name == "scatter":
                intercepts = setting.intercepts(moved)
                moved = intercepts + np.exp(by) * (moved - intercepts)
        # What the blur takes away has no part in the tangents, and stays where it is.
        moved = moved if setting.blur is None else setting.signals + (moved - smooth)
        return np.array(moved, dtype=X.dtype).reshape(X.shape)

    def _sources(self, setting: SignalSetting, amounts: np.ndarray) -> np.ndarray:
        """Return the positions that the content of moved signals came from, (n, length)."""
        names = np.array(setting.names)
        amounts = amounts.astype(setting.signals.dtype)
        return flow_back(setting.positions, *(amounts[:, names == name] for name in DISPLACEMENTS))

    def _setting(self, X: np.ndarray) -> SignalSetting:
        names = self.tangent_names(X)
        sigma = check_nonnegative(self.smoothing, "smoothing")
        signals = _as_signals(X, check_count(self.n_channels, "n_channels"))
        positions = _check_positions(self.positions, signals.shape[-1])
        blur = gaussian(positions, sigma).astype(X.dtype) if sigma else None
        weights = self._intercept_weights(signals, blur) if "scatter" in names else None
        return SignalSetting(names, signals, positions, blur, weights)

    def _intercept_weights(self, signals: np.ndarray, blur: csr_array | None) -> np.ndarray:
        """Return the w, for each channel, whose sum of w x is the intercept of x."""
        reference = self.reference if self.reference is not None else self._fitted_reference()
        reference = _check_reference(reference, signals.shape[1:])
        reference = blurred(reference[np.newaxis], blur)[0]
        mean = reference.mean(axis=-1, keepdims=True)
        departure = reference - mean
        spread = (departure**2).sum(axis=-1, keepdims=True)
        if not np.all(spread > 1e-24 * (reference**2).sum(axis=-1, keepdims=True)):
            raise ValueError("reference must not be constant: no gain can be told from an offset.")
        return 1 / reference.shape[-1] - mean * departure / spread

    def _fitted_reference(self) -> np.ndarray:
        if not hasattr(self, "reference_"):
            raise NotFittedError(
                "transforms has 'scatter', which needs a reference spectrum: call fit(X), which "
                "takes the mean of X, or set reference."
            )
        return self.reference_


def _as_signals(X: np.ndarray, n_channels: int) -> np.ndarray:
    """Return a view of shape (n_samples, n_channels, length)."""
    if X.ndim > 3:
        raise ValueError(
            "X must have shape (n_samples, length) or (n_samples, n_channels, length), "
            f"got {X.shape}."
        )
    if X.ndim == 2:
        if X.shape[1] % n_channels:
            raise ValueError(
                f"X has rows of {X.shape[1]} values, which do not divide into "
                f"n_channels={n_channels} channels of the same length."
            )
        X = X.reshape(len(X), n_channels, -1)
    if X.shape[-1] < 2:
        raise ValueError(f"X must hold signals of at least 2 samples, got {X.shape[-1]}.")
    return X


def _check_positions(positions: ArrayLike | None, length: int) -> np.ndarray:
    """Return positions in mean sample steps, from 0 to ``length - 1``."""
    if positions is None:
        return np.arange(float(length))
    places = check_numbers(positions, "positions", ensure_2d=False, dtype=np.float64)
    if places.shape != (length,):
        raise ValueError(
            f"positions must have shape ({length},), as signals have samples, got {places.shape}."
        )
    steps = np.diff(places)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        raise ValueError("positions must be strictly increasing or strictly decreasing.")
    return (places - places[0]) / (places[-1] - places[0]) * (length - 1)


def _check_reference(reference: ArrayLike, shape: tuple[int, int]) -> np.ndarray:
    """Return the reference as one of shape (n_channels, length), in double precision."""
    reference = check_numbers(reference, "reference", ensure_2d=False, dtype=np.float64)
    if reference.shape == shape[-1:]:
        return np.broadcast_to(reference, shape)
    if reference.shape not in (shape, (shape[0] * shape[1],)):
        raise ValueError(
            f"reference must have shape ({shape[1]},) or {shape} for these signals, "
            f"got {reference.shape}."
        )
    return reference.reshape(shape)
