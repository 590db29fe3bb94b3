import pytest
import torch

from sktangent.propagation import propagate
from tests.propagation.cases import check
from tests.propagation.reference import assert_propagates, samples

REARRANGED = {
    "reshape": lambda x: torch.reshape(x, (4, -1)),
    "reshape method": lambda x: x.reshape(4, 6, 2),
    "reshape sequence": lambda x: x.reshape((4, 12)),
    "reshape batch away": lambda x: x.reshape(-1),
    "reshape_as": lambda x: x.reshape_as(torch.zeros(12, 4)),
    "view": lambda x: x.view(x.size(0), -1),
    "view sequence": lambda x: x.view((4, 12)),
    "view named": lambda x: x.view(size=(4, 12)),
    "view after permute": lambda x: x.permute(1, 0, 2).view(3, 2, 2, 4),
    "view_as": lambda x: x.view_as(x.new_zeros(4, 12)),
    "view as samples": lambda x: torch.zeros(4, 12, dtype=x.dtype).view_as(x) + x,
    "flatten": lambda x: torch.flatten(x, 1),
    "flatten method": lambda x: x.flatten(start_dim=-2),
    "flatten all": lambda x: x.flatten(),
    "unflatten": lambda x: x.unflatten(-1, (2, 2)),
    "unflatten function": lambda x: torch.unflatten(x, 2, (2, -1)),
    "ravel": lambda x: x.ravel(),
    "permute": lambda x: x.permute(2, 0, 1),
    "permute negative": lambda x: torch.permute(x, (0, -1, -2)),
    "permute named": lambda x: x.permute(dims=(1, 2, 0)),
    "transpose": lambda x: x.transpose(1, 2),
    "transpose negative": lambda x: torch.transpose(x, -1, -2),
    "transpose mixed": lambda x: x.transpose(0, -1),
    "transpose named": lambda x: x.transpose(dim0=0, dim1=1),
    "swapaxes": lambda x: x.swapaxes(0, 2),
    "swapdims": lambda x: torch.swapdims(x, 1, 0),
    "movedim": lambda x: x.movedim(2, 0),
    "movedim several": lambda x: torch.movedim(x, (0, -1), (1, 0)),
    "moveaxis": lambda x: x.moveaxis(-1, 1),
    "T of a matrix": lambda x: x[0].T,
    "t": lambda x: x[:, 0].t(),
    "mT": lambda x: x.mT,
    "adjoint": lambda x: x.adjoint(),
    "squeeze": lambda x: x[:, :1].squeeze(1),
    "squeeze all": lambda x: x[:, :1].squeeze(),
    "squeeze negative": lambda x: x[..., :1].squeeze(dim=-1),
    "squeeze kept": lambda x: x.squeeze(1),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "unsqueeze last": lambda x: torch.unsqueeze(x, -1),
    "expand": lambda x: x[:, :1].expand(-1, 5, -1),
    "expand more axes": lambda x: x.expand(2, 4, 3, 4),
    "expand sequence": lambda x: x[..., :1].expand((4, 3, 7)),
    "expand_as": lambda x: x[:, :1].expand_as(x),
    "broadcast_to": lambda x: torch.broadcast_to(x[:1], (4, 3, 4)),
    "broadcast_tensors": lambda x: torch.cat(torch.broadcast_tensors(x, x.new_ones(2, 1, 3, 4))),
    "repeat": lambda x: x.repeat(1, 2, 1),
    "repeat more axes": lambda x: x.repeat((2, 1, 1, 2)),
    "tile": lambda x: x.tile((2, 3)),
    "tile method": lambda x: x.tile(2, 1, 1, 2),
    "repeat_interleave": lambda x: x.repeat_interleave(2, dim=1),
    "repeat_interleave all": lambda x: torch.repeat_interleave(x, 2),
    "repeat_interleave tensor": lambda x: x.repeat_interleave(torch.tensor([1, 0, 2]), dim=-2),
    "roll": lambda x: x.roll(1, 2),
    "roll several": lambda x: torch.roll(x, (1, -1), (0, -1)),
    "roll all": lambda x: torch.roll(x, 5),
    "flip": lambda x: x.flip(1),
    "flip several": lambda x: torch.flip(x, (0, -1)),
    "flip method several": lambda x: x.flip(0, 2),
    "fliplr": lambda x: x.fliplr(),
    "flipud": lambda x: torch.flipud(x),
    "rot90": lambda x: x.rot90(1, (1, 2)),
    "rot90 default": lambda x: torch.rot90(x),
    "tril": lambda x: x.tril(),
    "triu": lambda x: torch.triu(x, 1),
    "diagonal": lambda x: x.diagonal(0, 1, 2),
    "diagonal negative": lambda x: torch.diagonal(x, dim1=-2, dim2=-1, offset=1),
    "diagonal default": lambda x: x.diagonal(),
    "diag_embed": lambda x: torch.diag_embed(x),
    "diag_embed axes": lambda x: x.diag_embed(1, 0, 2),
    "diag of a matrix": lambda x: torch.diag(x[0]),
    "diag of a vector": lambda x: x[0, 0].diag(),
    "unfold": lambda x: x.unfold(2, 2, 1),
    "unfold negative": lambda x: x.unfold(-2, 2, 1),
}


@pytest.mark.parametrize("name", REARRANGED)
def test_rearranged(name):
    check(REARRANGED[name], 4, 3, 4)


@pytest.mark.filterwarnings("ignore:The use of `x.T`")
def test_reversed_axes():
    check(lambda x: x.T, 4, 3, 2)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.pixel_shuffle(x, 2),
        lambda x: torch.pixel_unshuffle(x, 2),
        lambda x: torch.nn.functional.channel_shuffle(x, 4),
        torch.nn.PixelShuffle(2),
        torch.nn.ChannelShuffle(2),
    ],
)
def test_shuffled(function):
    check(function, 2, 8, 4, 6)


def test_modules_that_reshape():
    check(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Unflatten(1, (2, 6))), 3, 4, 3)


def test_view_as_another_dtype_is_refused():
    with pytest.raises(TypeError, match="to\\(dtype\\)"):
        propagate(lambda x: x.view(torch.int64), *samples(2, 3))


def test_a_reshaped_constant_beside_samples():
    def function(x):
        return torch.ones(12, dtype=x.dtype).reshape_as(x) * x

    assert_propagates(function, *samples(3, 4))


def test_writing_through_a_view_changes_its_source():
    def function(x):
        h = x * x
        h.view(3, 2, 2).transpose(1, 2).mul_(x.reshape(3, 2, 2))
        h[:, 1:].exp_()
        return h

    assert_propagates(function, *samples(3, 4))


TAKEN_APART = {
    "hsplit": lambda x: torch.hsplit(x, 2),
    "hsplit places": lambda x: x.hsplit([1]),
    "hsplit of a vector": lambda x: torch.hsplit(x[0, 0], 2),
    "vsplit": lambda x: torch.vsplit(x, 2),
    "dsplit": lambda x: torch.dsplit(x, sections=2),
    "positive": lambda x: (torch.positive(x),),
    "plus": lambda x: (+x,),
    "real": lambda x: (torch.real(x),),
    "conj": lambda x: (x.conj(),),
    "resolve_conj": lambda x: (x.resolve_conj(),),
    "dropout of nothing": lambda x: (torch.nn.functional.dropout(x, 0.0, True),),
}


@pytest.mark.parametrize("name", TAKEN_APART)
def test_writing_into_a_part_changes_the_whole(name):
    def function(x):
        h = x * 1.5
        TAKEN_APART[name](h)[0].mul_(3)
        return h

    assert_propagates(function, *samples(4, 2, 4))


def test_views_without_a_rule_are_not_written_through_unseen():
    def function(x):
        h = x * 1.5
        part = torch.as_strided(h, (2,), (1,))
        h.mul_(3)
        return h.sum() * part

    with pytest.raises(RuntimeError, match="holds a view"):
        propagate(function, *samples(3, 4))


def test_samples_without_axes():
    def function(x):
        one = x[0, 0]
        parts = [one.sum(0), one.amax(0), one.cumsum(0), one.transpose(0, 0)]
        parts += [one.logsumexp(0), one.gather(0, torch.tensor(0)), one.unfold(0, 1, 1)[0]]
        return torch.stack(parts) ** 2

    assert_propagates(function, *samples(3, 4))
