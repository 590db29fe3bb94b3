"""What all tests of rules share: one check of a function of the samples."""

import torch

from tests.propagation.reference import assert_has_rule, assert_propagates, samples


def check(function, *shape, seed=0, reference=None):
    """Check a function's rule, by itself and behind and before curved functions.

    A linear function alone would hide what its rule does to the gradient of the penalty.
    """
    x, tangents = samples(*shape, seed=seed)
    if function(x).ndim == 0:  # one number for all samples has no place for theirs
        check(lambda x: function(x) * x, *shape, seed=seed)
        return

    def curved(function):
        return lambda x: torch.tanh(function(torch.sin(x)))

    reference = function if reference is None else reference
    assert_propagates(function, x, tangents, reference=reference)
    assert_propagates(curved(function), x, tangents, reference=curved(reference))
    assert_has_rule(function, x, tangents)


def check_module(module, *shape, seed=0, reference=None):
    """Check a module, its parameters included, and that rules alone took it."""
    x, tangents = samples(*shape, seed=seed)
    assert_propagates(module, x, tangents, reference=reference)
    assert_has_rule(module, x, tangents)
