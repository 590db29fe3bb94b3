"""Fitted estimators as files of ONNX, which many runtimes read."""

from __future__ import annotations

import copy
from os import PathLike
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sktangent import _torch
from sktangent._version import __version__
from sktangent.estimators import TangentPropClassifier, TangentPropRegressor
from sktangent.preprocessing.as_module import as_module

if TYPE_CHECKING:
    import onnx

__all__ = ["to_onnx"]

_N_RECORDED = 2
_N_TRIED = (1, 3)
# Functions that onnxruntime computes in single precision only, on the CPU; Sigmoid where it takes
# it and a product for one.
_SINGLE_ONLY = {
    *("Acos", "Asin", "Atan", "AveragePool", "Conv", "ConvTranspose", "Cos", "Elu", "Erf", "GRU"),
    *("GlobalAveragePool", "HardSigmoid", "InstanceNormalization", "LSTM", "RNN", "Resize"),
    *("Selu", "Sigmoid", "Softplus", "Tan"),
}


def to_onnx(
    estimator: TangentPropClassifier | TangentPropRegressor | Pipeline,
    file: str | PathLike | BinaryIO | None = None,
) -> onnx.ModelProto:
    """Export what a fitted estimator predicts, its preprocessor included.

    The model has one input, ``X`` (n_samples, *input_shape), in the precision of the estimator's
    network, float64 unless X was float32 or ``dtype`` said so; columns of a data frame come in the
    order of ``fit``. There may be any number of samples. Of a classifier the outputs are

    - ``label`` (n_samples,), what ``predict`` returns: strings as strings, other labels as numbers
      of their own kind; for multilabel targets (n_samples, n_labels), zeros and ones;
    - ``probabilities`` (n_samples, n_classes), what ``predict_proba`` returns.

    Of a regressor it is

    - ``variable`` (n_samples,) or (n_samples, n_outputs), what ``predict`` returns, in the units
      of y.

    Preprocessing is computed in double precision. So is a network of float64, but for the
    functions of which onnxruntime has no such kernel, GELU and convolutions among them: these are
    computed in single precision, and agree to about seven digits.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator of sktangent, or a fitted ``Pipeline`` that ends in one. Its
        preprocessor, and the other steps of a pipeline, must be scalers that do not clip, PCA or
        its kin, selections of features, :class:`~sktangent.preprocessing.GaussianBlur`, column
        transformers and unions of these, or a ``FunctionTransformer`` of an elementary function
        of numpy's, as ``np.log1p``; or pipelines.
    file : str, path or binary file, default=None
        Where to write the model. None: nowhere.

    Returns
    -------
    model : onnx.ModelProto
        The model.

    Raises
    ------
    ImportError
        If onnx is not installed.
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If the estimator, a step in front of it, or labels are of another kind.
    ValueError
        If the network computes with constants where it should with what it is given, or with a
        function that ONNX has no counterpart of.

    Examples
    --------
    >>> import numpy as np
    >>> import onnxruntime
    >>> from sktangent import TangentPropClassifier
    >>> from sktangent.export import to_onnx
    >>> X = np.random.default_rng(0).normal(size=(60, 4))
    >>> y = np.where(X[:, 0] > 0, "right", "left")
    >>> model = TangentPropClassifier(max_epochs=10, random_state=0).fit(X, y)
    >>> content = to_onnx(model).SerializeToString()
    >>> session = onnxruntime.InferenceSession(content)
    >>> label, probabilities = session.run(None, {"X": X})
    >>> np.array_equal(label, model.predict(X))
    True
    >>> np.allclose(probabilities, model.predict_proba(X), rtol=1e-5)
    True
    """
    onnx = _onnx()
    steps, final = _taken_apart(estimator)
    check_is_fitted(estimator)
    head = _head_of(final)
    model = onnx.load_from_string(_export(_Outputs(steps, final), head, final._dtype))
    _compute_in_single_precision(model)
    if "index" in head.names:
        _name_labels(model, final.classes_)
    model.producer_name, model.producer_version = "sktangent", __version__
    onnx.checker.check_model(model)
    if file is not None:
        onnx.save(model, file)
    return model


def _onnx():
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            "to_onnx needs onnx, which is not installed: pip install 'sktangent[onnx]'"
        ) from error
    return onnx


def _taken_apart(estimator) -> tuple[list, TangentPropClassifier | TangentPropRegressor]:
    """Return the steps before the estimator of ours, and that."""
    is_pipeline = isinstance(estimator, Pipeline)
    steps = [step for _, step in estimator.steps] if is_pipeline else [estimator]
    if not isinstance(steps[-1], TangentPropClassifier | TangentPropRegressor):
        raise TypeError(
            "estimator must be one of sktangent, or a Pipeline that ends in one, got "
            f"{type(estimator).__name__}. Of a search, pass its best_estimator_."
        )
    return steps[:-1], steps[-1]


class _Outputs(nn.Module):
    """From samples to the outputs of the network."""

    def __init__(self, steps: list, final: TangentPropClassifier | TangentPropRegressor) -> None:
        super().__init__()
        self.input_shape = _input_shape(steps, final)
        preprocessor = getattr(final, "preprocessor_", None)
        steps = steps if preprocessor is None else [*steps, preprocessor]
        self.preprocessing = as_module(make_pipeline(*steps), self.input_shape) if steps else None
        self.module = copy.deepcopy(_torch.uncompiled(final.module_)).cpu()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if self.preprocessing is not None:
            x = self.preprocessing(x.double()).to(x.dtype)
        return self.module(x)


def _input_shape(steps: list, final) -> tuple[int, ...]:
    if len(final._input_shape) > 1:  # steps that leave it as it is have led there
        return final._input_shape
    # steps that do not know the number of features do not change it
    return (next(s.n_features_in_ for s in [*steps, final] if hasattr(s, "n_features_in_")),)


def _head_of(final: TangentPropClassifier | TangentPropRegressor) -> nn.Module:
    if isinstance(final, TangentPropRegressor):
        return _Targets(final)
    return _Indicators() if final._multilabel else _Labels()


class _Targets(nn.Module):
    names = ("variable",)

    def __init__(self, regressor: TangentPropRegressor) -> None:
        super().__init__()
        self.is_one = regressor._target_shape == ()
        self.scale, self.mean = (
            torch.from_numpy(units.astype(regressor._dtype))
            for units in (regressor._y_scale, regressor._y_mean)
        )

    def forward(self, outputs: Tensor) -> tuple[Tensor, ...]:
        y = outputs * self.scale + self.mean
        return (y[:, 0] if self.is_one else y,)


class _Labels(nn.Module):
    names = ("index", "probabilities")

    def forward(self, logits: Tensor) -> tuple[Tensor, ...]:
        return logits.argmax(dim=1), logits.softmax(dim=1)


class _Indicators(nn.Module):
    names = ("label", "probabilities")

    def forward(self, logits: Tensor) -> tuple[Tensor, ...]:
        return (logits > 0).long(), logits.sigmoid()


def _export(outputs: _Outputs, head: nn.Module, dtype: np.dtype) -> bytes:
    """Record what is computed of a few samples, try that on others, and write it."""
    first, *others = (
        torch.from_numpy(np.random.default_rng(0).random((n, *outputs.input_shape), dtype))
        for n in (_N_RECORDED, *_N_TRIED)
    )
    try:
        again = _torch.recorded(outputs, first)
        for x in others:
            torch.testing.assert_close(again(x), outputs(x), equal_nan=True)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            "module cannot be exported: recorded once, it computes something else for other "
            "samples, or another number of them. It must take neither as constants: x.shape[0] "
            f"rather than len(x), torch.where rather than if. {error}"
        ) from error
    try:
        return _torch.as_onnx(nn.Sequential(outputs, head), first, head.names)
    except RuntimeError as error:
        raise ValueError(f"module cannot be exported: {error}") from error


def _compute_in_single_precision(model: onnx.ModelProto) -> None:
    """Put casts around functions of doubles that onnxruntime computes in single precision only."""
    doubles = _names_of_doubles(model)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        is_lacking = node.op_type in _SINGLE_ONLY and doubles & {*node.input, *node.output}
        nodes += _between_casts(node, doubles, len(nodes)) if is_lacking else [node]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)


def _names_of_doubles(model: onnx.ModelProto) -> set[str]:
    from onnx import TensorProto, shape_inference

    graph = shape_inference.infer_shapes(model).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name for name, kind in kinds.items() if kind == TensorProto.DOUBLE}


def _between_casts(node: onnx.NodeProto, doubles: set[str], number: int) -> list[onnx.NodeProto]:
    from onnx import TensorProto, helper

    before, after = [], []
    for i, name in enumerate(node.input):
        if name in doubles:
            node.input[i] = f"{name}_single_{number}"
            before.append(helper.make_node("Cast", [name], [node.input[i]], to=TensorProto.FLOAT))
    for i, name in enumerate(node.output):
        if name in doubles:
            node.output[i] = f"{name}_single_{number}"
            after.append(helper.make_node("Cast", [node.output[i]], [name], to=TensorProto.DOUBLE))
    return [*before, node, *after]


def _name_labels(model: onnx.ModelProto, classes: np.ndarray) -> None:
    """Let the model return labels in the place of their indices."""
    from onnx import helper, numpy_helper

    if classes.dtype.kind in "OU":
        if not all(isinstance(label, str) for label in classes):
            raise TypeError(f"labels must be strings or numbers to be exported, got {classes}.")
        classes = classes.astype(object)
    labels = numpy_helper.from_array(classes, "classes")
    model.graph.initializer.append(labels)
    model.graph.node.append(helper.make_node("Gather", ["classes", "index"], ["label"]))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("label", labels.data_type, ["n_samples"])
    )
