"""Fitted transformers as torch modules, in double precision, for what can leave scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from sklearn import decomposition, preprocessing
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import Tensor, nn

from sktangent._frames import ImageFrame, gaussian_matrix
from sktangent.preprocessing.affine import linear_part
from sktangent.preprocessing.blur import GaussianBlur
from sktangent.preprocessing.function import Function, name

# Named, not found by trying: no samples are at hand that would tell where to try.
SCALERS = {
    preprocessing.MaxAbsScaler,
    preprocessing.MinMaxScaler,
    preprocessing.RobustScaler,
    preprocessing.StandardScaler,
}
PROJECTIONS = {
    decomposition.FactorAnalysis,
    decomposition.FastICA,
    decomposition.IncrementalPCA,
    decomposition.PCA,
    decomposition.TruncatedSVD,
}
# functions of numpy, and what they are called in torch
FUNCTIONS = {
    np.abs: torch.abs,
    np.arctan: torch.atan,
    np.cos: torch.cos,
    np.exp: torch.exp,
    np.log: torch.log,
    np.log10: torch.log10,
    np.log1p: torch.log1p,
    np.log2: torch.log2,
    np.reciprocal: torch.reciprocal,
    np.sign: torch.sign,
    np.sin: torch.sin,
    np.sqrt: torch.sqrt,
    np.square: torch.square,
    np.tanh: torch.tanh,
}


def as_module(transformer: Any, input_shape: tuple[int, ...]) -> nn.Module:
    """Write a fitted transformer as a module.

    Parameters
    ----------
    transformer : transformer, "passthrough" or None
        A fitted transformer: one of :data:`SCALERS` or :data:`PROJECTIONS`, a selection of
        features, a :class:`GaussianBlur`, any of these in a ``ColumnTransformer`` or a
        ``FeatureUnion``, a ``FunctionTransformer`` of one of :data:`FUNCTIONS`, or a ``Pipeline``.
    input_shape : tuple of int
        Shape of a sample.

    Returns
    -------
    module : nn.Module
        From (n_samples, *input_shape) to (n_samples, *output_shape), in double precision.

    Raises
    ------
    TypeError
        If the transformer is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sktangent.preprocessing.as_module import as_module
    >>> scaler = StandardScaler().fit(np.array([[1.0], [3.0]]))
    >>> as_module(scaler, (1,))(torch.tensor([[4.0]], dtype=torch.float64))
    tensor([[2.]], dtype=torch.float64)
    """
    kind = type(transformer)
    if transformer is None or isinstance(transformer, str):
        return nn.Identity()
    if kind is Pipeline:
        return _chain([step for _, step in transformer.steps], input_shape)
    if kind is GaussianBlur:
        return _Blur(transformer)
    if kind is FunctionTransformer and not transformer.kw_args and transformer.func in FUNCTIONS:
        return _Elementwise(FUNCTIONS[transformer.func])
    if not _is_affine(transformer):
        raise TypeError(
            f"{name(transformer)} cannot be exported: only scalers that do not clip, PCA and its "
            "kin, selections of features, GaussianBlur, column transformers and unions of these, "
            "and FunctionTransformer of numpy's "
            f"{', '.join(function.__name__ for function in FUNCTIONS)} can."
        )
    return _affine(transformer, input_shape)


def _chain(steps: list, shape: tuple[int, ...]) -> nn.Sequential:
    modules = nn.Sequential()
    for step in steps:
        modules.append(as_module(step, shape))
        shape = modules[-1](torch.ones(1, *shape, dtype=torch.float64)).shape[1:]
    return modules


def _is_affine(transformer: Any) -> bool:
    if isinstance(transformer, str):
        return True
    kind = type(transformer)
    if kind is Pipeline:
        return all(_is_affine(step) for _, step in transformer.steps)
    if kind is FeatureUnion:
        return all(_is_affine(part) for _, part in transformer.transformer_list)
    if kind is ColumnTransformer:
        return all(_is_affine(part) for _, part, _ in transformer.transformers_)
    if kind is FunctionTransformer:
        return transformer.func is None
    selects = getattr(kind, "transform", None) is SelectorMixin.transform
    clips = getattr(transformer, "clip", False)
    return selects or (kind in {*SCALERS, *PROJECTIONS, GaussianBlur} and not clips)


def _affine(transformer: Any, input_shape: tuple[int, ...]) -> nn.Module:
    function = Function(transformer, _like_samples(transformer, input_shape))
    n_inputs = math.prod(input_shape)
    offset = function(np.zeros((1, n_inputs)))
    if type(transformer) in SCALERS:
        return _Scaling(linear_part(function, np.ones((1, n_inputs))), offset)
    return _Affine(linear_part(function, np.eye(n_inputs)), offset)


def _like_samples(transformer: Any, input_shape: tuple[int, ...]) -> Any:
    """Return no samples, in the form that the transformer was fitted on."""
    columns = getattr(transformer, "feature_names_in_", None)
    if columns is None:
        return np.zeros((0, *input_shape))
    import pandas as pd

    return pd.DataFrame(np.zeros((0, *input_shape)), columns=columns)


class _Elementwise(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class _Scaling(nn.Module):
    def __init__(self, slopes: np.ndarray, offset: np.ndarray) -> None:
        super().__init__()
        self.slopes, self.offset = torch.tensor(slopes), torch.tensor(offset)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.slopes + self.offset


class _Affine(_Scaling):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.slopes + self.offset


class _Blur(nn.Module):
    def __init__(self, blur: GaussianBlur) -> None:
        super().__init__()
        self.frame = ImageFrame.from_parameters(blur.image_shape, blur.channels)
        self.rows = torch.tensor(gaussian_matrix(self.frame.height, blur.sigma))
        self.columns = torch.tensor(gaussian_matrix(self.frame.width, blur.sigma).T)

    def forward(self, x: Tensor) -> Tensor:
        images = x.reshape(x.shape[0], *self.frame.shape)
        if self.frame.channel_axis == 2:
            blurred = self.rows @ images.permute(0, 3, 1, 2) @ self.columns
            blurred = blurred.permute(0, 2, 3, 1)
        else:
            blurred = self.rows @ images @ self.columns
        return blurred.reshape(x.shape[0], *x.shape[1:])
