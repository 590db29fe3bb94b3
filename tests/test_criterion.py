import numpy as np
import pytest
import torch
from torch import nn

from sktangent.criterion import TangentPropLoss
from sktangent.propagation import propagate

torch_rng = torch.Generator().manual_seed(0)


def draw(*shape):
    return torch.randn(*shape, generator=torch_rng, dtype=torch.float64)


Y_PRED, DY_PRED, DERIVATIVES = draw(5, 3), draw(5, 2, 3), draw(5, 2, 3)
WEIGHT = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0], dtype=torch.float64)
LABELS = torch.tensor([0, 2, 1, 1, 0])


def by_hand(losses, dy, d=0.0, s=1.0, w=0.7):
    """Return the two terms and their sum by the formula, from numpy arrays."""
    penalties = ((dy - d) ** 2).sum(axis=(1, 2))
    data, penalty = np.mean(s * losses), np.mean(s * penalties)
    return [data, penalty, data + w * penalty]


def squared_errors(y_pred, y_true):
    return ((y_pred - y_true) ** 2).numpy().sum(axis=1)


def cross_entropies(logits, labels):
    logits, labels = logits.numpy(), labels.numpy()
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]


def binary_cross_entropies(logits, y):
    p, y = 1 / (1 + np.exp(-logits.numpy())), y.numpy()
    return -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axis=1)


@pytest.mark.parametrize(
    ("loss", "y_true", "changes"),
    [
        (nn.CrossEntropyLoss, LABELS, {"label_smoothing": 0.2}),
        (nn.CrossEntropyLoss, LABELS, {"ignore_index": 1}),
        (nn.CrossEntropyLoss, LABELS, {"weight": draw(3).exp()}),
        (nn.BCEWithLogitsLoss, (draw(5, 3) > 0).double(), {"pos_weight": draw(3).exp()}),
        (nn.BCEWithLogitsLoss, (draw(5, 3) > 0).double(), {"weight": draw(3).exp()}),
        (nn.MSELoss, draw(5, 3), {}),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
def test_a_loss_that_changes_is_followed(loss, y_true, changes):
    criterion = TangentPropLoss(loss)
    for name, value in changes.items():
        setattr(criterion.loss, name, value)
    expected = loss(reduction="none", **changes)(Y_PRED, y_true).sum() / 5
    torch.testing.assert_close(criterion.data_term(Y_PRED, y_true), expected)
    torch.testing.assert_close(criterion.data_term(Y_PRED, y_true, torch.ones(5)), expected)


def test_a_loss_with_a_hook_or_another_forward_is_called():
    y_true = draw(5, 3)
    hooked, patched = TangentPropLoss(), TangentPropLoss()
    hooked.loss.register_forward_hook(lambda module, args, losses: 3 * losses)
    patched.loss.forward = lambda y_pred, y_true: 3 * (y_pred - y_true) ** 2
    expected = 3 * TangentPropLoss().data_term(Y_PRED, y_true)
    for criterion in (hooked, patched):
        torch.testing.assert_close(criterion.data_term(Y_PRED, y_true), expected)


def test_a_loss_set_by_a_subclass_is_used():
    class Absolute(TangentPropLoss):
        def __init__(self, **kwargs):
            super().__init__("squared_error", **kwargs)
            self.loss = nn.L1Loss(reduction="none")

    y_true = draw(5, 3)
    expected = (Y_PRED - y_true).abs().sum() / 5
    torch.testing.assert_close(Absolute().data_term(Y_PRED, y_true), expected)


@pytest.mark.parametrize("d", [None, DERIVATIVES])
@pytest.mark.parametrize("s", [None, WEIGHT])
@pytest.mark.parametrize(
    ("loss", "y_true", "losses"),
    [
        ("squared_error", draw(5, 3), squared_errors),
        ("cross_entropy", LABELS, cross_entropies),
        ("binary_cross_entropy", (draw(5, 3) > 0).double(), binary_cross_entropies),
    ],
)
def test_terms_are_the_formula(loss, y_true, losses, s, d):
    terms = TangentPropLoss(loss, penalty_weight=0.7)(Y_PRED, y_true, DY_PRED, d, s)
    expected = by_hand(
        losses(Y_PRED, y_true),
        DY_PRED.numpy(),
        0.0 if d is None else d.numpy(),
        1.0 if s is None else s.numpy(),
    )
    np.testing.assert_allclose([term.item() for term in terms], expected, rtol=1e-12)


def test_class_weight_weighs_both_terms():
    class_weight = torch.tensor([1.0, 0.5, 3.0], dtype=torch.float64)
    loss = TangentPropLoss("cross_entropy", 0.7, class_weight=class_weight)
    terms = loss(Y_PRED, LABELS, DY_PRED, sample_weight=WEIGHT)
    s = (class_weight[LABELS] * WEIGHT).numpy()
    expected = by_hand(cross_entropies(Y_PRED, LABELS), DY_PRED.numpy(), s=s)
    np.testing.assert_allclose([term.item() for term in terms], expected, rtol=1e-12)


def test_without_derivatives_there_is_no_penalty():
    terms = TangentPropLoss(penalty_weight=5.0)(Y_PRED, Y_PRED + 1)
    assert [term.item() for term in terms] == pytest.approx([3.0, 0.0, 3.0])


@pytest.mark.parametrize(
    ("penalty_on", "loss", "output"),
    [
        ("logits", "cross_entropy", lambda z: z),
        ("log_proba", "cross_entropy", lambda z: z - z.logsumexp(1, keepdim=True)),
        ("proba", "cross_entropy", lambda z: z.exp() / z.exp().sum(1, keepdim=True)),
        ("log_proba", "binary_cross_entropy", lambda z: -torch.log(1 + torch.exp(-z))),
        ("proba", "binary_cross_entropy", lambda z: 1 / (1 + torch.exp(-z))),
    ],
)
def test_penalty_on(penalty_on, loss, output):
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, tangents = draw(5, 4), draw(5, 2, 4)
    y, dy = propagate(net, x, tangents)
    penalty = TangentPropLoss(loss, penalty_on=penalty_on).sample_penalties(y, dy)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: output(net(row[None]))[0]))(x)
    expected = torch.einsum("nof,ntf->nto", jacobian, tangents).square().sum((1, 2))
    torch.testing.assert_close(penalty, expected, rtol=1e-10, atol=0)
    gradient = torch.autograd.grad(penalty.sum(), net[0].weight, retain_graph=True)
    wanted = torch.autograd.grad(expected.sum(), net[0].weight)
    torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-14)


def huber(y_pred, y_true, delta=1.0):
    return nn.functional.huber_loss(y_pred, y_true, delta=delta, reduction="none")


@pytest.mark.parametrize(
    ("loss", "kwargs"),
    [(nn.HuberLoss, {"delta": 0.3}), (nn.HuberLoss(reduction="none", delta=0.3), {})],
)
def test_a_loss_class_or_instance(loss, kwargs):
    y_true = draw(5, 3)
    data = TangentPropLoss(loss, **kwargs)(Y_PRED, y_true).data
    assert data.item() == pytest.approx(huber(Y_PRED, y_true, 0.3).sum(1).mean().item(), rel=1e-12)


def test_a_callable_returns_losses_of_samples_or_of_outputs():
    y_true = draw(5, 3)
    of_outputs = TangentPropLoss(huber)(Y_PRED, y_true).data
    of_samples = TangentPropLoss(lambda a, b: huber(a, b).sum(1))(Y_PRED, y_true).data
    assert of_outputs.item() == pytest.approx(of_samples.item(), rel=1e-14)


def test_a_callable_may_take_labels():
    def focal(logits, labels):
        log_p = torch.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
        return -((1 - log_p.exp()) ** 2) * log_p

    data = TangentPropLoss(focal)(Y_PRED, LABELS).data
    assert data.item() == pytest.approx(focal(Y_PRED, LABELS).mean().item(), rel=1e-14)


def test_weight_does_not_depend_on_batch_size():
    y_true, loss = draw(5, 3), TangentPropLoss(penalty_weight=0.7)
    once = loss(Y_PRED, y_true, DY_PRED)
    twice = loss(*(value.repeat(2, *[1] * (value.ndim - 1)) for value in (Y_PRED, y_true, DY_PRED)))
    torch.testing.assert_close(tuple(once), tuple(twice))


def test_a_plain_torch_loop():
    torch.manual_seed(0)
    x = torch.linspace(0, 1, 5)[:, None]
    module, loss = nn.Linear(1, 1), TangentPropLoss(penalty_weight=1.0)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(300):
        y, dy = propagate(module, x, torch.ones(5, 1, 1))
        optimizer.zero_grad()
        loss(y, x, dy).total.backward()
        optimizer.step()
    assert module.weight.item() == pytest.approx(1 / 9, abs=1e-3)  # 0.125 / (0.125 + 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TangentPropLoss("hinge"), "loss must be one of .*'hinge'"),
        (lambda: TangentPropLoss(3), "loss must be a name, a class or a callable, got 3"),
        (lambda: TangentPropLoss(huber, delta=1.0), "already built.*delta"),
        (lambda: TangentPropLoss(penalty_weight=-1.0), "penalty_weight must be .*-1.0"),
        (lambda: TangentPropLoss(penalty_weight=float("nan")), "penalty_weight must be .*nan"),
        (lambda: TangentPropLoss(penalty_on="probs"), "penalty_on must be .*'probs'"),
        (lambda: TangentPropLoss(penalty_on="proba"), "penalty_on='proba' needs a cross entropy"),
    ],
)
def test_wrong_parameters(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (TangentPropLoss(), (Y_PRED, draw(5)), r"\(5, 3\) and y_true \(5,\)"),
        (TangentPropLoss(), (draw(5, 1), torch.ones(5, dtype=int)), r"y_true \(5,\)"),
        (TangentPropLoss(huber), (draw(5, 1), draw(5)), r"y_true \(5,\)"),
        (TangentPropLoss(), (Y_PRED, Y_PRED, DY_PRED[:4]), r"\(5, n_tangents, 3\)"),
        (TangentPropLoss(), (Y_PRED, Y_PRED, DY_PRED[:, 0]), r"\(5, n_tangents, 3\)"),
        (TangentPropLoss(), (Y_PRED, Y_PRED, DY_PRED, DY_PRED[:, :1]), "derivatives has shape"),
        (TangentPropLoss(), (Y_PRED, Y_PRED, None, None, WEIGHT[:, None]), "sample_weight has"),
        (TangentPropLoss(nn.MSELoss, reduction="mean"), (Y_PRED, Y_PRED), "one value a sample"),
        (TangentPropLoss(class_weight=WEIGHT[:3]), (Y_PRED, Y_PRED), "class_weight needs"),
    ],
)
def test_shapes_that_do_not_fit(loss, arguments, message):
    with pytest.raises(ValueError, match=message):
        loss(*arguments)


def test_class_weight_moves_with_the_module():
    loss = TangentPropLoss("cross_entropy", class_weight=torch.ones(3)).double()
    assert loss.class_weight.dtype == torch.float64
    assert "class_weight" in loss.state_dict()
