"""The classifier."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils import compute_class_weight, compute_sample_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
    unique_labels,
)
from torch import nn

from sktangent.estimators.base import TangentPropEstimator
from sktangent.estimators.descriptions import ATTRIBUTES, FORMULA, describe
from sktangent.estimators.label_net import LabelNet, more_probable_than_not, most_probable
from sktangent.estimators.parameters import CONSTRAINTS
from sktangent.training.distributed import all_labels, have_own_parts


class TangentPropClassifier(ClassifierMixin, TangentPropEstimator):  # noqa: D101, it is put together
    __doc__ = (
        r"""Neural network classifier that is told which directions must not matter.

    It minimizes
"""
        + FORMULA
        + """
    L is the cross entropy: of the softmax, or for multilabel targets of the sigmoid.

    Parameters
    ----------
    """
        + describe(
            own="""
penalty_on : {"logits", "log_proba", "proba"}, default="logits"
    Which output the derivative is taken of.
class_weight : dict, "balanced", list of dict or None, default=None
    A factor for each class, multiplied into the weights of its samples, as in scikit-learn.
    ``partial_fit`` takes no "balanced".
""",
            auto='"adam".',
            criterion='"cross_entropy", for multilabel targets "binary_cross_entropy"',
            sizes="""
int or array-like of int, default=(100,)
    Units of each hidden layer of the default module.
""",
        )
        + """

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels; for multilabel targets their indices.
    """
        + ATTRIBUTES.strip()
        + """

    Examples
    --------
    >>> import numpy as np
    >>> from sktangent import TangentPropClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(40, 2))
    >>> y = np.where(X[:, 0] > 0, "right", "left")
    >>> def second_feature(X):  # moving along it must not matter
    ...     return np.tile([0.0, 1.0], (len(X), 1, 1))
    >>> model = TangentPropClassifier(second_feature, random_state=0).fit(X, y)
    >>> model.predict([[1.0, -9.0], [-1.0, 9.0]])
    array(['right', 'left'], dtype='<U5')
    """
    )

    _parameter_constraints = {
        **CONSTRAINTS,
        "penalty_on": [StrOptions({"logits", "log_proba", "proba"})],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        tangents: Callable | None = None,
        penalty_weight: float = 1.0,
        *,
        n_projections: int | None = None,
        augment: float | dict[str, float] | None = None,
        penalty_on: str = "logits",
        class_weight=None,
        preprocessor=None,
        module=None,
        hidden_layer_sizes=(100,),
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
        self.penalty_on = penalty_on
        self.class_weight = class_weight
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
        tags.classifier_tags.multi_label = True
        return tags

    @available_if(lambda self: self._check_partial_fit())
    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y, classes=None, sample_weight=None, tangents=None, derivatives=None):
        """Train for one epoch, from where training stands.

        The first call fits the preprocessor and the tangents, if they have a ``fit``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            The labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come; needed in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each sample, relative to the mean in the first call. None: ones.
        tangents : array-like of shape (n_samples, n_tangents, *input_shape), default=None
            The samples' tangent vectors, in place of the ``tangents`` callable.
        derivatives : array-like, default=None
            The directional derivatives wanted, as in ``fit``.

        Returns
        -------
        self : TangentPropClassifier
            The estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or an array is not as described, or if training diverges.
        """
        fresh = not hasattr(self, "net_")
        if fresh:  # a first call that failed does not count
            vars(self).pop("classes_", None)
        _check_partial_fit_first_call(self, classes)
        return self._fit(
            X, y, sample_weight, tangents, derivatives, fresh, incremental=True, classes=classes
        )

    def predict(self, X) -> np.ndarray:
        """Predict the label of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
            The samples.

        Returns
        -------
        y : ndarray of shape (n_samples,), or ndarray or sparse of shape (n_samples, n_labels)
            The labels; a sparse matrix if those of ``fit`` were one.

        Raises
        ------
        NotFittedError
            If ``fit`` has not been called.
        ValueError
            If the samples are not like those that ``fit`` saw.
        """
        logits = self._outputs(X)
        if self._multilabel:
            labels = (logits > 0).astype(int)
            return labels if self._sparse_target is None else self._sparse_target(labels)
        return self.classes_[logits.argmax(axis=1)]

    def predict_proba(self, X) -> np.ndarray:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
            The samples.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            The probabilities, in the order of ``classes_``; of each label by itself for
            multilabel targets.

        Raises
        ------
        NotFittedError, ValueError
            As :meth:`predict`.
        """
        return self._proba(self._outputs(X))

    def _proba(self, logits: np.ndarray) -> np.ndarray:
        return expit(logits) if self._multilabel else softmax(logits, axis=1)

    def predict_log_proba(self, X) -> np.ndarray:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
            The samples.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            The logarithm of :meth:`predict_proba`, computed without taking that of zero.

        Raises
        ------
        NotFittedError, ValueError
            As :meth:`predict`.
        """
        logits = self._outputs(X)
        return log_expit(logits) if self._multilabel else log_softmax(logits, axis=1)

    def decision_function(self, X) -> np.ndarray:
        """Compute the logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
            The samples.

        Returns
        -------
        logits : ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            The logits; for two classes the second's minus the first's. Of multilabel targets,
            one for each label.

        Raises
        ------
        NotFittedError, ValueError
            As :meth:`predict`.
        """
        logits = self._outputs(X)
        if not self._multilabel and len(self.classes_) == 2:
            return logits[:, 1] - logits[:, 0]
        return logits

    def directional_derivative(self, X, tangents=None, output: str = "logits") -> np.ndarray:
        r"""Compute the derivatives of the outputs along tangent vectors, :math:`J_f(x)\,\tau`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
            The samples.
        tangents : callable or array-like, default=None
            The tangent vectors, (n_samples, n_tangents, *input_shape), in the units of X. None:
            those of ``tangents_``.
        output : {"logits", "log_proba", "proba"}, default="logits"
            Which output the derivative is taken of.

        Returns
        -------
        dy : ndarray of shape (n_samples, n_tangents, n_classes)
            The directional derivatives, through the preprocessor.

        Raises
        ------
        NotFittedError, ValueError
            As :meth:`predict`, or if there are no tangents.
        """
        dy = self._directional_derivatives(X, tangents)
        if output == "logits":
            return dy
        return dy @ self._output_slopes(self._outputs(X), output).swapaxes(1, 2)

    def jacobian(self, X, output: str = "logits") -> np.ndarray:
        """Compute the Jacobian of the outputs with respect to X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
            The samples.
        output : {"logits", "log_proba", "proba"}, default="logits"
            Which output the derivative is taken of.

        Returns
        -------
        J : ndarray of shape (n_samples, n_classes, n_features) or (n_samples, n_classes, \
                *input_shape)
            The Jacobian, through the preprocessor, in the units of X.

        Raises
        ------
        NotFittedError, ValueError
            As :meth:`predict`.
        """
        logits, J = self._outputs_and_jacobian(X)
        if output == "logits":
            return J
        return (self._output_slopes(logits, output) @ J.reshape(*J.shape[:2], -1)).reshape(J.shape)

    def _output_slopes(self, logits: np.ndarray, output: str) -> np.ndarray:
        """Compute the derivative of log-probabilities or probabilities by the logits."""
        if output not in ("log_proba", "proba"):
            raise ValueError(f"output must be 'logits', 'log_proba' or 'proba', got {output!r}.")
        proba = self._proba(logits)
        identity = np.eye(proba.shape[1], dtype=proba.dtype)
        if self._multilabel:
            slopes = identity * (1 - proba)[:, None, :]
        else:
            slopes = identity - proba[:, None, :]
        return slopes if output == "log_proba" else slopes * proba[:, :, None]

    @property
    def _target_scale(self) -> np.ndarray:
        return np.ones(len(self.classes_))

    def _check_partial_fit(self) -> bool:
        if isinstance(self.class_weight, str):
            raise AttributeError(
                f"class_weight={self.class_weight!r} does not go with partial_fit, which sees a "
                "part of the samples; pass a dict, made from all labels by "
                "sklearn.utils.compute_class_weight for example."
            )
        return super()._check_partial_fit()

    def _check_target(self, y: np.ndarray, fresh: bool, incremental: bool, classes) -> np.ndarray:
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind == "multiclass-multioutput":
            raise ValueError(f"y must hold one label, or 0/1 indicators, a sample; got {kind}.")
        multilabel = kind == "multilabel-indicator"
        found = np.arange(y.shape[1]) if multilabel else all_labels(np.unique(y))
        if fresh:
            self._multilabel = multilabel
            self.classes_ = found if classes is None else unique_labels(classes)
        some = incremental and not multilabel
        fits = np.isin(found, self.classes_).all() if some else np.array_equal(found, self.classes_)
        if not fits or multilabel != self._multilabel:
            wanted = (
                "expected some of" if incremental else "warm_start needs those of the last fit,"
            )
            raise ValueError(f"y is {kind} of labels {found}, {wanted} {self.classes_}.")
        return y

    def _encode_target(self, y: np.ndarray, weight: np.ndarray, fresh: bool) -> np.ndarray:
        if self._multilabel:
            return y.astype(self._dtype)
        return np.searchsorted(self.classes_, y)

    def _target_weight(self, y: np.ndarray) -> np.ndarray | float:
        if self.class_weight is None:
            return 1.0
        if isinstance(self.class_weight, str) and have_own_parts():
            raise ValueError(
                f"class_weight={self.class_weight!r} counts the labels of one process, and each "
                "has its own part of the samples; pass a dict."
            )
        if self._multilabel or isinstance(self.class_weight, str):
            return compute_sample_weight(self.class_weight, y)
        # a class may be absent from a part of the samples
        weight = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        return weight[np.searchsorted(self.classes_, y)]

    def _stratify(self, y: np.ndarray) -> np.ndarray | None:
        return None if self._multilabel else y

    def _make_net(self, module: nn.Module, **params) -> LabelNet:
        return LabelNet(
            module,
            decide=more_probable_than_not if self._multilabel else most_probable,
            classes=range(len(self.classes_)),
            predict_nonlinearity=torch.sigmoid if self._multilabel else _softmax,
            **params,
        )

    def _criterion_params(self) -> dict:
        default = "binary_cross_entropy" if self._multilabel else "cross_entropy"
        return {"loss": self.criterion or default, "penalty_on": self.penalty_on}


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    return torch.softmax(logits, dim=1)
