import warnings

import numpy as np
import pytest
import torch
from skorch.dataset import Dataset
from torch.utils.data import DataLoader, Subset, TensorDataset

import sktangent.training.batches
from sktangent._randomness import seeded
from sktangent.training.batches import TensorBatches, make_batches
from sktangent.training.computed_rows import ComputedRows

X = np.arange(22.0, dtype=np.float32).reshape(11, 2)
Y = np.arange(11)
TANGENTS = np.arange(66.0, dtype=np.float32).reshape(11, 3, 2)


def order_of(batches):
    return torch.cat([y for _, y in batches]).tolist()


@pytest.mark.parametrize("samples", [X, torch.as_tensor(X), {"x": X, "tangents": TANGENTS}])
@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
def test_batches_are_those_of_a_data_loader(samples, batch_size):
    dataset = Dataset(samples, Y)
    ours = make_batches(dataset, batch_size=batch_size)
    theirs = DataLoader(dataset, batch_size=batch_size)
    assert isinstance(ours, TensorBatches)
    assert len(ours) == len(theirs)
    for batch, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(batch, tuple(expected))


@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_are_computed_for_a_batch_of_one_as_for_any(shuffle):
    computed = ComputedRows(lambda rows: {"x": X[rows]}, 11)
    batches = TensorBatches({"x": computed}, Y, batch_size=5, shuffle=shuffle)
    for samples, y in batches:
        torch.testing.assert_close(samples["x"], torch.as_tensor(X[y.numpy()]))


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_view_that_repeats_one_row_stays_one(shuffle):
    repeated = np.broadcast_to(np.eye(50), (11, 50, 50))
    batches = TensorBatches({"x": X, "tangents": repeated}, Y, batch_size=4, shuffle=shuffle)
    for samples, _ in batches:
        assert samples["tangents"].untyped_storage().nbytes() == 50 * 50 * 8
        expected = torch.eye(50, dtype=torch.float64).expand(len(samples["x"]), 50, 50)
        torch.testing.assert_close(samples["tangents"], expected)


def test_a_subset_is_sliced():
    dataset = Subset(Dataset({"x": X, "tangents": TANGENTS}, Y), [7, 2, 5])
    ours = make_batches(Subset(dataset, np.array([2, 0])), batch_size=5)
    assert isinstance(ours, TensorBatches)
    ((samples, y),) = ours
    assert y.tolist() == [5, 7]
    torch.testing.assert_close(samples["tangents"], torch.as_tensor(TANGENTS[[5, 7]]))


def test_shuffling_draws_a_new_order_for_every_pass_and_is_reproducible():
    def two_passes():
        batches = TensorBatches(X, Y, 4, shuffle=True, generator=torch.Generator().manual_seed(3))
        return order_of(batches), order_of(batches)

    first, second = two_passes()
    assert sorted(first) == sorted(second) == Y.tolist()
    assert first != second
    assert two_passes() == (first, second)


def test_shuffling_without_a_generator_follows_torch():
    batches = TensorBatches(X, Y, 4, shuffle=True)
    torch.manual_seed(0)
    first = order_of(batches)
    torch.manual_seed(0)
    assert order_of(batches) == first != Y.tolist()


def test_samples_and_targets_are_shuffled_together():
    batches = TensorBatches({"x": X, "tangents": TANGENTS}, Y, 4, shuffle=True)
    for samples, y in batches:
        torch.testing.assert_close(samples["x"], torch.as_tensor(X)[y])
        torch.testing.assert_close(samples["tangents"], torch.as_tensor(TANGENTS)[y])


def test_one_batch_of_everything_is_not_reordered():
    assert order_of(TensorBatches(X, Y, 11, shuffle=True)) == Y.tolist()


@pytest.mark.parametrize("shuffle", [False, True])
def test_writing_into_a_batch_leaves_the_arrays_alone(shuffle):
    samples = X.copy()
    for batch, _ in TensorBatches(samples, Y, 4, shuffle=shuffle):
        batch.zero_()
    np.testing.assert_array_equal(samples, X)


def test_read_only_arrays_come_without_a_warning():
    samples = np.broadcast_to(X[0], X.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ((batch, _),) = make_batches(Dataset(samples, Y), batch_size=20)
    np.testing.assert_array_equal(batch, samples)


def test_without_targets_skorch_gets_a_stand_in():
    ((batch, y),) = make_batches(Dataset(X), batch_size=20)
    assert len(batch) == 11
    assert y.tolist() == [0.0]


@pytest.mark.parametrize(
    ("dataset", "kwargs"),
    [
        (TensorDataset(torch.as_tensor(X), torch.as_tensor(Y)), {}),
        (Dataset([X, X], Y), {}),
        (Dataset(X, Y), {"drop_last": True, "generator": torch.Generator()}),
    ],
)
def test_other_datasets_and_loader_options_go_through_a_data_loader(dataset, kwargs):
    assert isinstance(make_batches(dataset, batch_size=4, **kwargs), DataLoader)


def test_a_data_set_class_of_the_user_is_asked_for_its_items():
    class Doubled(Dataset):
        def transform(self, X, y):
            return 2 * X, y

    samples, _ = next(iter(make_batches(Doubled(X, Y), batch_size=3)))
    np.testing.assert_array_equal(samples, 2 * X[:3])


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"same number of samples, got \[10, 11\]"):
        TensorBatches(X, Y[:10])
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        TensorBatches(X, Y, 0)


WANTED = np.where(TANGENTS[..., :1] % 5 == 0, np.nan, TANGENTS[..., :1])


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("extra", [{}, {"derivatives": WANTED}], ids=["zero", "wanted"])
@pytest.mark.parametrize("n_projections", [1, 2, 3])
def test_projected_tangents_are_those_drawn_whether_kept_or_computed(
    shuffle, extra, n_projections, monkeypatch
):
    monkeypatch.setattr("sktangent.training.batches._PROJECTED_AT_ONCE", 3)
    arrays = {"tangents": TANGENTS, **extra}
    computed = ComputedRows(lambda rows: {k: part[rows] for k, part in arrays.items()}, 11)
    passes = []
    for parts in (arrays, {"tangents": computed}):
        generator = torch.Generator().manual_seed(0)
        with seeded(0, torch.device("cpu")):
            batches = TensorBatches(
                {"x": X, **parts}, Y, 4, shuffle, generator, n_projections=n_projections
            )
            passes.append([list(batches), list(batches)])
    torch.testing.assert_close(*passes, equal_nan=True)
    first, second = passes[0]
    for samples, y in first:
        assert samples["tangents"].shape == (len(y), n_projections, 2)
        if n_projections == 1 and not extra:  # signs are what differs from sample to sample
            odd = torch.as_tensor(TANGENTS)[y].diff(dim=2)
            sums = samples["tangents"].diff(dim=2)[:, 0]
            assert set((sums / odd[:, 0]).flatten().tolist()) <= {-3.0, -1.0, 1.0, 3.0}
    if n_projections < 3:
        signs = [torch.cat([X["tangents"] for X, _ in each]) for each in (first, second)]
        assert not torch.equal(*signs)


def test_projecting_reads_any_order():
    tangents = np.asfortranarray(np.random.default_rng(0).normal(size=(11, 5, 2)))
    passes = []
    for given in (tangents, np.ascontiguousarray(tangents)):
        with seeded(0, torch.device("cpu")):
            passes.append(list(TensorBatches({"x": X, "tangents": given}, Y, 4, n_projections=2)))
    torch.testing.assert_close(*passes)


@pytest.mark.parametrize("there_is_room", [False, True])
def test_arrays_that_do_not_fit_go_to_the_device_batch_by_batch(monkeypatch, there_is_room):
    monkeypatch.setattr(sktangent.training.batches, "_fits", lambda *parts: there_is_room)
    computed = ComputedRows(lambda rows: {"tangents": TANGENTS[rows]}, 11)
    samples = {"x": X, "rows": computed}
    batches = TensorBatches(samples, Y, 4, shuffle=not there_is_room, device="meta")
    home = "meta" if there_is_room else "cpu"
    assert [batches.X["x"].device.type, batches.y.device.type] == [home, home]
    for samples, y in batches:
        assert {part.device.type for part in (*samples.values(), y)} == {"meta"}
