import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

from sktangent.propagation import propagate
from tests.propagation.cases import check_module
from tests.propagation.reference import samples


class Output(nn.Module):
    """Output and last states of a recurrent layer, side by side, samples first."""

    def __init__(self, layer, unbatched=False):
        super().__init__()
        self.layer, self.unbatched = layer, unbatched

    def forward(self, x, *states):
        output, last = self.layer(x, *states)
        last = last if isinstance(last, tuple) else (last,)
        if self.unbatched:
            return torch.cat([output.flatten(), *(state.flatten() for state in last)])[None]
        output = output if self.layer.batch_first else output.transpose(0, 1)
        states = [state.transpose(0, 1).flatten(1) for state in last]
        return torch.cat([output.flatten(1), *states], 1)


KINDS = {
    "RNN": nn.RNN,
    "RNN relu": lambda *args, **options: nn.RNN(*args, nonlinearity="relu", **options),
    "GRU": nn.GRU,
    "LSTM": nn.LSTM,
    "LSTM projected": lambda *args, **options: nn.LSTM(*args, proj_size=2, **options),
}

OPTIONS = {
    "plain": {},
    "batch first": {"batch_first": True},
    "two layers": {"num_layers": 2, "batch_first": True},
    "bidirectional": {"bidirectional": True, "batch_first": True},
    "no bias": {"bias": False, "batch_first": True},
    "all": {"num_layers": 3, "bidirectional": True, "batch_first": True},
    "dropout": {"num_layers": 3, "dropout": 0.4, "batch_first": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", OPTIONS)
def test_layers(kind, options):
    torch.manual_seed(0)
    layer = KINDS[kind](4, 3, **OPTIONS[options])
    if layer.batch_first:
        check_module(Output(layer), 2, 5, 4)
    else:
        check_module(Output(layer), 5, 5, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_one_sequence_without_a_batch_axis(kind):
    torch.manual_seed(0)

    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.output = Output(KINDS[kind](4, 3), unbatched=True)

        def forward(self, x):
            return self.output(x[0])

    check_module(Single(), 1, 5, 4)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_initial_states_made_from_the_samples(kind):
    torch.manual_seed(0)

    class Started(nn.Module):
        def __init__(self):
            super().__init__()
            self.output = Output(KINDS[kind](4, 3, batch_first=True))
            self.start = nn.Linear(4, 3)

        def forward(self, x):
            h = self.start(x[:, 0]).unsqueeze(0)
            return self.output(x, (h, h.tanh()) if kind == "LSTM" else h)

    check_module(Started(), 2, 5, 4)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_states_made_from_the_samples_over_a_constant_sequence(kind):
    torch.manual_seed(0)

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.output = Output(KINDS[kind](2, 3, batch_first=True))

        def forward(self, x):
            steps = torch.linspace(-1, 1, 8, dtype=x.dtype).view(1, 4, 2).expand(len(x), 4, 2)
            h = x.unsqueeze(0)
            return self.output(steps, (h, h * h) if kind == "LSTM" else h)

    check_module(Decoder(), 5, 3)


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
@pytest.mark.parametrize("bias", [True, False])
def test_cells(cell, bias):
    torch.manual_seed(0)

    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = cell(4, 3, bias=bias)

        def forward(self, x):
            state = None
            for step in x.unbind(1):
                state = self.cell(step, state)
            return state[0] * state[1] if isinstance(state, tuple) else state

    check_module(Loop(), 2, 4, 4)


def test_a_cell_that_rectifies():
    torch.manual_seed(0)
    check_module(nn.RNNCell(4, 3, nonlinearity="relu"), 2, 4)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_random_numbers_are_those_of_a_plain_pass(kind):
    layer = KINDS[kind](4, 3, num_layers=3, dropout=0.5, bidirectional=True).double()
    x, tangents = samples(5, 5, 4)
    torch.manual_seed(2)
    expected = layer(x)[0]
    following = torch.rand(3)
    torch.manual_seed(2)
    y, _ = propagate(lambda x: layer(x)[0], x, tangents)
    torch.testing.assert_close(y, expected)
    assert torch.equal(torch.rand(3), following)


def test_packed_sequences_are_refused():
    layer = nn.GRU(4, 3, batch_first=True)
    x, tangents = samples(2, 5, 4)

    def padded(x):
        return layer(pack_padded_sequence(x, [5, 4], batch_first=True))[0].data

    def from_parts(x):
        return layer(pack_sequence([x[0], x[1, :3]]))[0].data

    for function in (padded, from_parts):
        with pytest.raises(TypeError, match="[Pp]acked sequences"):
            propagate(function, x.float(), tangents.float())
