"""The classifier's net: a skorch net whose predictions are class indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.base import ClassifierMixin

from sktangent.net import TangentPropNet


class LabelNet(ClassifierMixin, TangentPropNet):
    """A net that predicts labels, as skorch's own classifier does, for scikit-learn's scorers.

    Parameters
    ----------
    module : nn.Module class or instance
        The network.
    decide : callable
        Turns the probabilities of samples, (n_samples, n_classes), into their labels.
    classes : sequence
        The classes, in the order of the outputs.
    **kwargs : dict
        The other parameters of :class:`~sktangent.net.TangentPropNet`.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sktangent.estimators.label_net import LabelNet, most_probable
    >>> module = torch.nn.Linear(2, 2)
    >>> _ = module.weight.data.copy_(torch.eye(2))
    >>> _ = module.bias.data.zero_()
    >>> net = LabelNet(module, most_probable, range(2)).initialize()
    >>> net.predict(np.array([[0.2, 0.8], [0.6, 0.4]], dtype=np.float32))
    array([1, 0])
    """

    def __init__(
        self,
        module,
        decide: Callable[[np.ndarray], np.ndarray],
        classes: Sequence[int],
        **kwargs,
    ) -> None:
        super().__init__(module, **kwargs)
        self.decide = decide
        self.classes = classes

    @property
    def classes_(self) -> np.ndarray:
        """The classes, in the order of the outputs."""
        return np.asarray(self.classes)

    def predict(self, X) -> np.ndarray:
        """Predict the labels of samples; see :meth:`skorch.NeuralNetClassifier.predict`."""
        return self.decide(self.predict_proba(X))


def most_probable(proba: np.ndarray) -> np.ndarray:
    """Tell the index of the most probable class of each sample."""
    return proba.argmax(axis=1)


def more_probable_than_not(proba: np.ndarray) -> np.ndarray:
    """Tell, by 0 and 1, which labels of each sample are likelier than not."""
    return (proba > 0.5).astype(int)
