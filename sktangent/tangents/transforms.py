"""Tangents of a user's own transformations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from sktangent._checks import check_choice, check_count, check_nonnegative
from sktangent.tangents._base import BaseTangents

_MODES = ("differences", "forward")
# A transformation that does this to the samples at amount zero is taken for a mistake.
_LARGEST_CHANGE = 1e-2


class TransformTangents(BaseTangents):
    r"""Directions in which samples move under transformations that you write yourself.

    ``transform(X, amount)`` returns the samples transformed by an amount, where zero means not
    at all. The tangent is its derivative there,

    .. math:: \tau = \frac{\partial T_a(x)}{\partial a} \Big|_{a = 0}
              \approx \frac{T_h(x) - T_{-h}(x)}{2 h},

    so that :math:`x + a \tau` is the transformed sample for a small a. Its unit is one unit
    of the amount. The penalty grows with the square of that unit, so choose one over which the
    samples change about as much as they should be allowed to.

    Parameters
    ----------
    transform : callable or list of callable
        ``transform(X, amount) -> transformed``, of the shape of X, acting on each sample alone
        and always in the same way. NumPy, scikit-learn or, see ``mode``, torch.
        The tangents of a list come in its order.
    n_parameters : int, None or list of them, default=None
        None: the amount is a number. An int p: the amount is a vector of p numbers, and
        there are p tangents, one for each. A list has an entry for each transform.
    step : float, default=1e-4
        h above. The error is :math:`h^2 / 6` times the third derivative by the amount, and
        rounding adds about :math:`10^{-16} / h` of x. Choose a larger one where the
        transform computes in single precision, and about 1e-4 of the amount that changes
        samples beyond recognition where that is far from one.
    mode : {"differences", "forward"}, default="differences"
        ``"differences"`` calls the transform twice for each parameter, with NumPy arrays.
        ``"forward"`` is for transforms that are written in torch: called once for each
        parameter with tensors, they are differentiated exactly by forward-mode
        differentiation (:mod:`torch.autograd.forward_ad`). The amount is then a tensor, of no
        axis or one, and must stay one: ``float(amount)`` loses the derivative, which is an error.

    See Also
    --------
    ImageTangents : The usual transformations of images.
    SeriesTangents : The usual transformations of signals and spectra.

    Notes
    -----
    The transform is called with samples in double precision, a copy of its own each time, and
    the tangents are then rounded to the dtype of X.

    A transformation that resamples has tangents as smooth as its interpolation; linear
    interpolation has a kink at amount zero, of which the central difference is the mean slope.

    Defined by :math:`1 + a` rather than by a factor, a scaling is none at amount zero. A warning
    tells of a transform that changes the samples there by more than a hundredth of their norm.

    ``move`` calls the transforms in their order, once for each sample, whose amounts are its own.

    Functions cannot be pickled if they are lambdas or defined inside other functions; with
    parallel processes, put them into a module.

    References
    ----------
    .. [1] P. Simard, B. Victorri, Y. LeCun, J. Denker. Tangent Prop - a formalism for
       specifying selected invariances in an adaptive network. NIPS 4, 895-903, 1991.

    Examples
    --------
    Clouds of points in space, a sample being of shape (n_points, 3), turned about the
    vertical axis (a unit is one radian) and moved (a unit is one unit of length):

    >>> import numpy as np
    >>> from sktangent.tangents import TransformTangents
    >>> def turn(X, angle):
    ...     c, s = np.cos(angle), np.sin(angle)
    ...     return X @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    >>> def move(X, by):
    ...     return X + by
    >>> clouds = np.random.default_rng(0).normal(size=(20, 50, 3))
    >>> tangents = TransformTangents([turn, move], n_parameters=[None, 3])
    >>> V = tangents(clouds)
    >>> V.shape
    (20, 4, 50, 3)

    Turning moves the point (x, y, z) along (-y, x, 0):

    >>> x, y, z = clouds[0, 0]
    >>> bool(np.allclose(V[0, 0, 0], [-y, x, 0]))
    True

    The same in torch, differentiated exactly:

    >>> import torch
    >>> def spin(X, angle):
    ...     x, y, z = X.unbind(-1)
    ...     c, s = angle.cos(), angle.sin()
    ...     return torch.stack([c * x - s * y, s * x + c * y, z], dim=-1)
    >>> exact = TransformTangents(spin, mode="forward")(clouds)
    >>> bool(np.allclose(exact[:, 0], V[:, 0]))
    True
    """

    def __init__(
        self,
        transform: Callable | Sequence[Callable],
        n_parameters: int | None | Sequence[int | None] = None,
        step: float = 1e-4,
        mode: str = "differences",
    ):
        self.transform = transform
        self.n_parameters = n_parameters
        self.step = step
        self.mode = mode

    def tangent_names(self, X: ArrayLike) -> list[str]:
        """Name the transform that each tangent belongs to, as its ``__name__`` does.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            Ignored.

        Returns
        -------
        names : list of str
            One for each tangent; a transform of several parameters has as many.

        Raises
        ------
        TypeError, ValueError
            If ``transform`` or ``n_parameters`` is not as described.
        """
        return [_short_name(one) for one, n in self._counted() for _ in range(n or 1)]

    def _counted(self) -> list[tuple[Callable, int | None]]:
        transforms = _check_transforms(self.transform)
        counts = _check_counts(self.n_parameters, len(transforms))
        return list(zip(transforms, counts, strict=True))

    def _move(self, X: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        check_choice(self.mode, _MODES, "mode")
        moved, t = X, 0
        for transform, count in self._counted():
            part = amounts[:, t] if count is None else amounts[:, t : t + count]
            moved = _transformed_one_by_one(transform, moved, part, self.mode)
            t += count or 1
        return moved.astype(X.dtype)

    def _tangents(self, X: np.ndarray) -> np.ndarray:
        counted = self._counted()
        check_choice(self.mode, _MODES, "mode")
        step = check_nonnegative(self.step, "step")
        if step == 0:
            raise ValueError("step must be above zero, got 0.")
        V = np.empty((len(X), sum(n or 1 for _, n in counted), *X.shape[1:]), dtype=X.dtype)
        t = 0
        for transform, count in counted:
            for direction in [1.0] if count is None else np.eye(count):
                if self.mode == "forward":
                    middle, V[:, t] = _forward(transform, X, direction)
                else:
                    middle, V[:, t] = _difference(transform, X, direction, step)
                t += 1
            _warn_of_change(transform, X, middle)
        return V


def _difference(
    transform: Callable, X: np.ndarray, direction: float | np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples at amount zero, nearly, and the tangent."""
    ahead, behind = (
        _check_transformed(transform(X.astype(np.float64), amount), transform, X)
        for amount in (step * direction, -step * direction)
    )
    return (ahead + behind) / 2, (ahead - behind) / (2 * step)


def _forward(
    transform: Callable, X: np.ndarray, direction: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples at amount zero and the tangent."""
    # Here, because the tangents must be usable, and quick to import, without torch.
    import torch
    from torch.autograd import forward_ad

    samples, ahead = (torch.tensor(array, dtype=torch.float64) for array in (X, direction))
    with forward_ad.dual_level():
        try:
            transformed = transform(samples, forward_ad.make_dual(torch.zeros_like(ahead), ahead))
            middle, tangent = forward_ad.unpack_dual(transformed)
        except (AttributeError, RuntimeError, TypeError) as error:
            raise TypeError(
                f"mode='forward' cannot differentiate {_name(transform)}: {error}\nIt must be "
                "written in torch functions that have a forward formula, from tensors to one "
                "tensor. mode='differences' takes any transform, with NumPy arrays."
            ) from error
    if tangent is None:
        raise ValueError(
            f"{_name(transform)} does not depend on the amount. In mode='forward' the amount must "
            "stay a tensor: float(amount) and amount.item() lose its derivative."
        )
    return tuple(
        _check_transformed(one.detach().numpy(), transform, X) for one in (middle, tangent)
    )


def _transformed_one_by_one(
    transform: Callable, X: np.ndarray, amounts: np.ndarray, mode: str
) -> np.ndarray:
    """Return samples transformed each by its own amount, in double precision."""
    moved = np.empty(X.shape)
    for i, amount in enumerate(amounts):
        sample = X[i : i + 1].astype(np.float64)
        if mode == "forward":
            import torch

            one = transform(torch.from_numpy(sample), torch.tensor(amount))
        else:
            one = transform(sample, float(amount) if amounts.ndim == 1 else amount.copy())
        moved[i] = _check_transformed(one, transform, sample, f"at amount {amount}")[0]
    return moved


def _check_transforms(transform: Callable | Sequence[Callable]) -> list[Callable]:
    transforms = [transform] if callable(transform) else transform
    listed = isinstance(transforms, Sequence) and not isinstance(transforms, str)
    if not listed or not all(callable(one) for one in transforms):
        raise TypeError(
            f"transform must be a callable, transform(X, amount), or a list of them, "
            f"got {transform!r}."
        )
    if not transforms:
        raise ValueError("transform must hold at least one callable, got an empty list.")
    return list(transforms)


def _check_counts(n_parameters, n_transforms: int) -> list[int | None]:
    if not isinstance(n_parameters, (Sequence, np.ndarray)) or isinstance(n_parameters, str):
        n_parameters = [n_parameters] * n_transforms
    if len(n_parameters) != n_transforms:
        raise ValueError(
            f"n_parameters must have an entry for each of the {n_transforms} transforms, "
            f"got {len(n_parameters)}."
        )
    return [None if n is None else check_count(n, "n_parameters") for n in n_parameters]


def _check_transformed(
    transformed, transform: Callable, X: np.ndarray, where: str = "near amount zero"
) -> np.ndarray:
    try:
        transformed = np.asarray(transformed, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{_name(transform)} must return an array of numbers: {error}") from error
    if transformed.shape != X.shape:
        raise ValueError(
            f"{_name(transform)} must return the shape of X, {X.shape}, got {transformed.shape}."
        )
    if not np.isfinite(transformed).all():
        raise ValueError(f"{_name(transform)} returns NaN or infinity {where}.")
    return transformed


def _warn_of_change(transform: Callable, X: np.ndarray, middle: np.ndarray) -> None:
    change, size = np.linalg.norm(middle - X), np.linalg.norm(X)
    if change > _LARGEST_CHANGE * size:
        warnings.warn(
            f"{_name(transform)} changes X at amount zero, where it should do nothing, by "
            f"{change / size if size else np.inf:.1%} of its norm: its tangents are those of other "
            "samples than the model sees. A factor is 1 + amount.",
            UserWarning,
            stacklevel=4,
        )


def _name(transform: Callable) -> str:
    return f"transform {_short_name(transform)!r}"


def _short_name(transform: Callable) -> str:
    return getattr(transform, "__name__", type(transform).__name__)
