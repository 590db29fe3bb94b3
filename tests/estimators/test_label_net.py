"""Callbacks that score the classifier's net, as they score skorch's classifier."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from skorch.callbacks import EpochScoring

from sktangent import TangentPropClassifier


def make(scoring="accuracy", **kwargs):
    on_train = not kwargs.get("early_stopping", False)
    scorer = EpochScoring(scoring, lower_is_better=False, on_train=on_train, name="score")
    defaults = {"callbacks": [scorer], "max_epochs": 5, "lr": 0.02, "random_state": 0}
    return TangentPropClassifier(**{**defaults, **kwargs})


def test_accuracy_on_the_samples_held_out(X, labels):
    classifier = make(early_stopping=True, tol=0.0).fit(X, labels)
    split = train_test_split(
        np.arange(len(X)), test_size=0.1, random_state=np.random.RandomState(0), stratify=labels
    )
    scores = classifier.history_[:, "score"]
    best = int(np.argmin(classifier.history_[:, "valid_loss"]))  # the epoch that comes back
    expected = accuracy_score(labels[split[1]], classifier.predict(X[split[1]]))
    assert scores[best] == pytest.approx(expected)


@pytest.mark.parametrize("use_caching", [True, False])
def test_accuracy_on_the_samples_trained_on(X, labels, use_caching):
    scorer = EpochScoring("accuracy", on_train=True, name="score", use_caching=use_caching)
    classifier = make(callbacks=[scorer], batch_size=len(X), lr=1e-9).fit(X, labels)
    expected = classifier.score(X, labels)
    assert classifier.history_[-1, "score"] == pytest.approx(expected, abs=0.02)


def test_scores_that_ask_for_probabilities(X, labels):
    classifier = make("roc_auc", batch_size=len(X), lr=1e-9).fit(X, labels)
    expected = roc_auc_score(labels == "spam", classifier.predict_proba(X)[:, 1])
    assert classifier.history_[-1, "score"] == pytest.approx(expected, abs=0.02)


def test_multilabel_targets(X):
    Y = np.column_stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 2] > 0.5]).astype(int)
    classifier = make(batch_size=len(X), lr=1e-9).fit(X, Y)
    assert classifier.history_[-1, "score"] == pytest.approx(classifier.score(X, Y), abs=0.02)
    np.testing.assert_array_equal(
        classifier.net_.predict(X.astype(classifier._dtype)), classifier.predict(X)
    )


def test_a_criterion_of_ones_own(X, three_labels):
    def loss(logits, y):
        return torch.nn.functional.cross_entropy(logits, y, reduction="none")

    classifier = make(criterion=loss).fit(X, three_labels)
    proba = classifier.predict_proba(X)
    np.testing.assert_allclose(classifier.net_.predict_proba(X), proba, rtol=1e-6)


def test_the_net_is_a_classifier_and_can_be_copied(X, three_labels):
    net = make().fit(X, three_labels).net_
    assert is_classifier(net)
    np.testing.assert_array_equal(net.classes_, [0, 1, 2])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(net)).predict(X), net.predict(X))
