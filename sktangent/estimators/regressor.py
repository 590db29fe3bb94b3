"""The regressor."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from torch import nn

from sktangent.estimators.activations import piecewise_linear_functions
from sktangent.estimators.base import TangentPropEstimator
from sktangent.estimators.descriptions import ATTRIBUTES, FORMULA, describe
from sktangent.estimators.parameters import CONSTRAINTS
from sktangent.estimators.tangent_rows import moments
from sktangent.training.distributed import any_rank


class TangentPropRegressor(RegressorMixin, TangentPropEstimator):  # noqa: D101, it is put together
    __doc__ = (
        r"""Neural network regressor that is told which directions must not matter.

    It minimizes
"""
        + FORMULA
        + """
    L is the squared error, summed over outputs.

    Parameters
    ----------
    """
        + describe(
            own="""
normalize_y : bool, default=True
    Standardize the target inside, and the derivatives with it; f and the penalty are then in
    scaled units, so the penalty weight has no unit. (A ``TransformedTargetRegressor`` around the
    estimator would scale the target alone, and the derivatives would be wrong.)
""",
            auto=(
                '"lm" for at most 20 samples with\n    tangents, or with known derivatives if '
                "4 p³, p the parameters of the\n    network, is below 1.2e10, unless "
                "``module``, ``criterion``, ``lr``, ``batch_size``,\n    ``max_epochs``, "
                "``n_iter_no_change``, ``early_stopping``, ``n_projections``, ``autocast``,\n"
                '    ``optimizer__*`` or ``iterator_train__*`` are given; else "adam".'
            ),
            criterion='"squared_error"',
            sizes="""
int, array-like of int or "auto", default="auto"
    Units of each hidden layer of the default module. "auto": with known derivatives of one output
    (12, 12, 12) by three to twelve inputs, (20, 20) where more than 5,000 numbers are known, (30,)
    by 13 to 30 inputs; else (100,).
""",
        )
        + """

    Attributes
    ----------
    """
        + ATTRIBUTES.strip()
        + """

    Examples
    --------
    Through every point, and flat at every point:

    >>> import numpy as np
    >>> from sktangent import TangentPropRegressor
    >>> X = np.linspace(0, 1, 5)[:, None]
    >>> model = TangentPropRegressor(
    ...     tangents=lambda X: np.ones((len(X), 1, 1)), penalty_weight=0.1,
    ...     hidden_layer_sizes=(100, 100), random_state=0).fit(X, X.ravel())
    >>> bool(np.abs(model.predict(X) - X.ravel()).max() < 0.02)
    True
    >>> slopes = np.diff(model.predict([[0.24], [0.26], [0.37], [0.38]]))[[0, 2]]
    >>> bool(slopes[0] < slopes[1])  # over twice the distance
    True
    """
    )

    _parameter_constraints = {
        **CONSTRAINTS,
        "normalize_y": ["boolean"],
        "hidden_layer_sizes": [StrOptions({"auto"}), *CONSTRAINTS["hidden_layer_sizes"]],
    }

    def __init__(
        self,
        tangents: Callable | None = None,
        penalty_weight: float = 1.0,
        *,
        n_projections: int | None = None,
        augment: float | dict[str, float] | None = None,
        normalize_y: bool = True,
        preprocessor=None,
        module=None,
        hidden_layer_sizes="auto",
        activation="gelu",
        criterion=None,
        optimizer="auto",
        lr="auto",
        batch_size="auto",
        max_epochs="auto",
        alpha="auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change="auto",
        tol: float = 1e-4,
        warm_start: bool = False,
        shuffle: bool = True,
        verbose=False,
        random_state=None,
        device: str = "cpu",
        dtype=None,
        autocast: str | None = None,
        compile: bool = False,
        accelerator=None,
        checkpoint=None,
        callbacks=None,
        **kwargs,
    ) -> None:
        self.tangents = tangents
        self.penalty_weight = penalty_weight
        self.n_projections = n_projections
        self.augment = augment
        self.normalize_y = normalize_y
        self.preprocessor = preprocessor
        self.module = module
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.criterion = criterion
        self.optimizer = optimizer
        self.lr = lr
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.alpha = alpha
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.shuffle = shuffle
        self.verbose = verbose
        self.random_state = random_state
        self.device = device
        self.dtype = dtype
        self.autocast = autocast
        self.compile = compile
        self.accelerator = accelerator
        self.checkpoint = checkpoint
        self.callbacks = callbacks
        self._set_extra_params(kwargs)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X,
        y,
        sample_weight=None,
        tangents=None,
        derivatives=None,
        derivative_weight=None,
    ):
        """Train on samples, their targets, their tangents and known derivatives.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
            The samples. More than two dimensions go through if the module takes them.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets. With derivatives, NaN where a value is not known: its term drops out.
        sample_weight : array-like of shape (n_samples,), default=None
            s, the weight of each sample in both terms. None: ones.
        tangents : array-like of shape (n_samples, n_tangents, *input_shape), default=None
            The samples' tangent vectors, in place of the ``tangents`` callable.
        derivatives : array-like of shape (n_samples, n_tangents) or \
                (n_samples, n_tangents, n_outputs), default=None
            d, the directional derivatives that are wanted, in the units of X and y as given; NaN
            where one is not known: its term drops out. Without any tangents they are the Jacobian,
            (n_samples, n_features) or (n_samples, n_features, n_outputs), and the penalty measures
            each feature in its standard deviation, so that units do not matter. None: zero,
            invariance. First derivatives only: second ones, Hessians, have no place here.
        derivative_weight : array-like of shape (n_tangents,), (n_samples, n_tangents) or \
                (n_samples, n_tangents, n_outputs), default=None
            A factor, zero or more, for each squared difference in the penalty: how far a
            derivative can be relied on, 1 over the variance of its error for example. An axis of
            length 1 counts for all. In cross-validation, an array as long as X is taken for one
            with a row for each sample. None: ones.

        Returns
        -------
        self : TangentPropRegressor
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or an array is not as described, or if training diverges.
        """
        fresh = not (self.warm_start and hasattr(self, "net_"))
        return self._fit(
            X,
            y,
            sample_weight,
            tangents,
            derivatives,
            fresh,
            derivative_weight=derivative_weight,
        )

    @available_if(lambda self: self._check_partial_fit())
    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self,
        X,
        y,
        sample_weight=None,
        tangents=None,
        derivatives=None,
        derivative_weight=None,
    ):
        """Train for one epoch, from where training stands.

        The first call fits the preprocessor and the tangents, if they have a ``fit``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets. The first call fixes the scale of ``normalize_y``.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each sample, relative to the mean in the first call. None: ones.
        tangents : array-like of shape (n_samples, n_tangents, *input_shape), default=None
            The samples' tangent vectors, in place of the ``tangents`` callable.
        derivatives, derivative_weight : array-like, default=None
            The directional derivatives wanted, and their weights, as in ``fit``.

        Returns
        -------
        self : TangentPropRegressor
            The estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or an array is not as described, or if training diverges.
        """
        fresh = not hasattr(self, "net_")
        return self._fit(
            X,
            y,
            sample_weight,
            tangents,
            derivatives,
            fresh,
            incremental=True,
            derivative_weight=derivative_weight,
        )

    def predict(self, X, return_jacobian: bool = False):
        """Predict the target of each sample, and if asked its derivatives, in one pass.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
            The samples.
        return_jacobian : bool, default=False
            Whether to return the Jacobian too.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The targets, in the units of ``fit``.
        J : ndarray of shape (n_samples, n_outputs, n_features) or (n_samples, n_outputs, \
                *input_shape)
            What :meth:`jacobian` returns; only with ``return_jacobian``.

        Raises
        ------
        NotFittedError
            If ``fit`` has not been called.
        ValueError
            If the samples are not like those that ``fit`` saw.

        Examples
        --------
        What :func:`scipy.optimize.minimize` asks for with ``jac=True``:

        >>> import numpy as np
        >>> from sktangent import TangentPropRegressor
        >>> X = np.linspace(0, 1, 5)[:, None]
        >>> model = TangentPropRegressor(random_state=0).fit(X, X[:, 0] ** 2, derivatives=2 * X)
        >>> y, J = model.predict([[0.5]], return_jacobian=True)
        >>> y.round(2), J.round(2)
        (array([0.25]), array([[[1.]]]))
        """
        if return_jacobian:
            outputs, J = self._outputs_and_jacobian(X)
            return self._in_units_of_y(outputs), self._slopes_in_units_of_y(J)
        return self._in_units_of_y(self._outputs(X))

    def _in_units_of_y(self, outputs: np.ndarray) -> np.ndarray:
        y = outputs * self._y_scale.astype(self._dtype) + self._y_mean.astype(self._dtype)
        return y.reshape(len(y), *self._target_shape)

    def _slopes_in_units_of_y(self, J: np.ndarray) -> np.ndarray:
        return J * self._y_scale.astype(self._dtype).reshape(-1, *(1,) * (J.ndim - 2))

    def directional_derivative(self, X, tangents=None) -> np.ndarray:
        r"""Compute the derivatives of the prediction along tangent vectors, :math:`J_f(x)\,\tau`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
            The samples.
        tangents : callable or array-like, default=None
            The tangent vectors, (n_samples, n_tangents, *input_shape), in the units of X. None:
            those of ``tangents_``.

        Returns
        -------
        dy : ndarray of shape (n_samples, n_tangents, n_outputs)
            The directional derivatives, in the units of y, through the preprocessor.

        Raises
        ------
        NotFittedError, ValueError
            As :meth:`predict`, or if there are no tangents.
        """
        return self._directional_derivatives(X, tangents) * self._y_scale.astype(self._dtype)

    def jacobian(self, X) -> np.ndarray:
        """Compute the Jacobian of the prediction with respect to X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
            The samples.

        Returns
        -------
        J : ndarray of shape (n_samples, n_outputs, n_features) or (n_samples, n_outputs, \
                *input_shape)
            The Jacobian, through the preprocessor, in the units of y over those of X.

        Raises
        ------
        NotFittedError, ValueError
            As :meth:`predict`.

        Examples
        --------
        >>> import numpy as np
        >>> from sktangent import TangentPropRegressor
        >>> X = np.linspace(0, 1, 5)[:, None]
        >>> model = TangentPropRegressor(random_state=0).fit(X, X[:, 0] ** 2, derivatives=2 * X)
        >>> model.jacobian([[0.5]]).round(2)
        array([[[1.]]])
        """
        return self._slopes_in_units_of_y(self._outputs_and_jacobian(X)[1])

    @property
    def _target_scale(self) -> np.ndarray:
        return self._y_scale

    def _check_target(self, y: np.ndarray, fresh: bool, incremental: bool, classes) -> np.ndarray:
        y = y.astype(np.float64)
        if fresh:
            self._target_shape = y.shape[1:]
        elif y.shape[1:] != self._target_shape:
            raise ValueError(
                f"y holds targets of shape {y.shape[1:]}; fit saw shape {self._target_shape}."
            )
        return y

    def _encode_target(self, y: np.ndarray, weight: np.ndarray, fresh: bool) -> np.ndarray:
        y = y.reshape(len(y), -1)
        if fresh:
            self._y_mean, self._y_scale = (
                _known_moments(y, weight) if self.normalize_y else _none(y)
            )
            with np.errstate(over="ignore"):
                units = np.stack([self._y_mean, self._y_scale]).astype(self._dtype)
            if not np.isfinite(units).all():
                raise ValueError(f"y holds values too large for the network's {self._dtype}.")
        with np.errstate(over="ignore"):
            encoded = ((y - self._y_mean) / self._y_scale).astype(self._dtype)
        if np.isinf(encoded).any():
            raise ValueError(f"y holds values too large, or too far apart, for {self._dtype}.")
        return encoded

    def _fill_unknown(self, y) -> tuple:
        if y is None or sparse.issparse(y):
            return y, None
        try:
            values = np.asarray(y)
            values = values if np.iscomplexobj(values) else values.astype(np.float64, copy=False)
        except (TypeError, ValueError):
            return y, None  # what is wrong with it is told later
        is_unknown = np.isnan(values)
        return (np.where(is_unknown, 0.0, values), is_unknown) if is_unknown.any() else (y, None)

    def _check_activations(self, module: nn.Module, probes: torch.Tensor) -> None:
        found = piecewise_linear_functions(module, probes)
        if found:
            warnings.warn(
                f"The network is piecewise linear ({', '.join(found)}): the penalty on its "
                "derivatives has no gradient with respect to where its kinks are, so it can hardly "
                "fit them. Use a smooth activation, 'gelu', 'silu' or 'tanh'.",
                UserWarning,
                stacklevel=7,
            )

    def _criterion_params(self) -> dict:
        return {"loss": self.criterion or "squared_error"}


def _known_moments(y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the moments of each output over the samples of which its value is known."""
    if not any_rank(np.isnan(y).any()):
        return moments(y, weight)
    pairs = []
    for column in y.T:
        known = ~np.isnan(column)
        if not weight[known].any():
            raise ValueError("sample_weight is zero wherever y is known.")
        pairs.append(moments(column[known, None], weight[known]))
    mean, scale = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return mean, scale


def _none(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(y.shape[1]), np.ones(y.shape[1])
