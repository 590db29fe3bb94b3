"""The estimators' parameters: what they may be, what they mean, and those meant for skorch."""

from __future__ import annotations

import inspect
import os
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
)
from torch import nn, optim

from sktangent._checks import did_you_mean
from sktangent._html import DocumentationLink

SKORCH_PREFIXES = (
    "module__",
    "criterion__",
    "optimizer__",
    "iterator_train__",
    "iterator_valid__",
    "compile__",
    "callbacks__",
)

CONSTRAINTS: dict = {
    "tangents": [callable, None],
    "penalty_weight": [Interval(Real, 0, None, closed="left")],
    "n_projections": [Interval(Integral, 1, None, closed="left"), None],
    "augment": [Interval(Real, 0, None, closed="left"), dict, None],
    "module": [callable, nn.Module, None],
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [str, callable],
    "criterion": [str, callable, None],
    "preprocessor": [HasMethods(["fit", "transform"]), None],
    "optimizer": [
        StrOptions({"auto", "adam", "adamw", "sgd", "lbfgs", "lm"}),
        type(optim.Optimizer),
    ],
    "lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [
        StrOptions({"auto"}),
        Interval(Integral, 1, None, closed="left"),
        Options(Real, {np.inf}),
    ],
    "tol": [Interval(Real, 0, None, closed="left")],
    "warm_start": ["boolean"],
    "shuffle": ["boolean"],
    "verbose": ["verbose"],
    "random_state": ["random_state"],
    "device": [str],
    "dtype": [StrOptions({"float32", "float64"}), type, np.dtype, None],
    "autocast": [StrOptions({"bfloat16"}), None],
    "compile": ["boolean"],
    "accelerator": [HasMethods(["reduce"]), None],
    "checkpoint": [str, os.PathLike, None],
    "callbacks": [list, None],
}


class SkorchParameters(DocumentationLink, BaseEstimator):
    """Parameters with a skorch prefix, in the constructor, ``get_params`` and ``set_params``."""

    @classmethod
    def _get_param_names(cls) -> list[str]:
        """Name the constructor's parameters, and those it hands on by ``**kwargs``."""
        names: set[str] = set()
        for owner in cls.__mro__:
            if "__init__" in vars(owner) and issubclass(owner, SkorchParameters):
                names.update(BaseEstimator._get_param_names.__func__(owner))
                if not _takes_any(owner.__init__):
                    break
        return sorted(names)

    def _set_extra_params(self, params: dict) -> None:
        """Store ``**kwargs``; unknown ones are kept for ``fit`` to complain of."""
        vars(self).update(params)
        unknown = [name for name in params if not name.startswith(SKORCH_PREFIXES)]
        if unknown:
            self._unknown_params = unknown

    def _validate_params(self) -> None:
        """Check the parameters, and say where arrays of tangents belong."""
        if not (self.tangents is None or callable(self.tangents)):
            raise InvalidParameterError(
                f"The 'tangents' parameter of {type(self).__name__} must be a callable, "
                f"tangents(X) -> V, or None, got {type(self.tangents).__name__}. An array with the "
                "tangents of each sample goes to fit(X, y, tangents=V); vectors common to all "
                "samples are FeatureTangents(directions=V); several callables are a TangentUnion."
            )
        super()._validate_params()
        if self.checkpoint is not None and self.random_state is None:
            raise InvalidParameterError(
                f"checkpoint={str(self.checkpoint)!r} needs a random_state, an int for example: "
                "without, a fit that is started again is another one."
            )

    def _check_params_are_known(self) -> None:
        for name in getattr(self, "_unknown_params", ()):
            known = [*self._get_param_names(), *SKORCH_PREFIXES]
            hint = did_you_mean(name, known)
            raise TypeError(f"{type(self).__name__} has no parameter {name!r}.{hint}")

    def _get_skorch_params(self) -> dict:
        return {name: x for name, x in vars(self).items() if name.startswith(SKORCH_PREFIXES)}

    def get_params(self, deep: bool = True) -> dict:
        """Get the parameters of this estimator, those meant for skorch included.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the parameters of ``tangents`` and the like.

        Returns
        -------
        params : dict
            Parameter names and values.
        """
        unknown = {name: getattr(self, name) for name in getattr(self, "_unknown_params", ())}
        return {**super().get_params(deep=deep), **self._get_skorch_params(), **unknown}

    def set_params(self, **params):
        """Set parameters of this estimator, those meant for skorch included.

        Parameters
        ----------
        **params : dict
            Parameter names and values.

        Returns
        -------
        self : estimator
            The estimator.

        Raises
        ------
        ValueError
            If there is no parameter of that name.
        """
        for_skorch = {name for name in params if name.startswith(SKORCH_PREFIXES)}
        super().set_params(**{k: v for k, v in params.items() if k not in for_skorch})
        self._set_extra_params({name: params[name] for name in for_skorch})
        return self


def _takes_any(function) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
