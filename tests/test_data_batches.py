"""Batches of arrays and of iterables."""

import numpy as np
import pytest

from fourbit_onnx.data import batches
from fourbit_onnx.data.batches import ArrayBatches, StreamBatches
from fourbit_onnx.data.checks import Spec
from fourbit_onnx.errors import DataError

SPECS = {
    "x": Spec("x", np.dtype(np.float32), ("N", 2)),
    "y": Spec("y", np.dtype(np.int64), ("N",), classes=100),
}

NO_BATCH = (
    "the data has no batch in epoch {}; an iterator gives its batches once: pass a list, "
    "a DataLoader, or a function from epoch to batches"
)
ORDER_0_0 = [0, 8, 9, 3, 7, 5, 1, 2, 6, 4]
ORDER_7_3 = [7, 1, 9, 6, 0, 4, 2, 8, 3, 5]


def arrays(samples=10):
    y = np.arange(samples)
    return {"x": np.stack([y, -y], 1).astype(np.float32), "y": y}


def labels(stream):
    return [batch["y"].tolist() for batch in stream]


def test_in_order_without_a_seed():
    source = ArrayBatches(arrays(), SPECS, 4)
    assert labels(source.epoch(0)) == labels(source.epoch(1)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert (source.count(), source.samples()) == (3, 10)


def test_order_never_changes_between_versions():
    """Philox's raw stream is fixed by NumPy: https://numpy.org/neps/nep-0019-rng-policy.html."""
    assert batches.shuffled(0, 0, 10).tolist() == ORDER_0_0
    assert batches.shuffled(7, 3, 10).tolist() == ORDER_7_3


def test_every_sample_once_an_epoch_in_another_order_each_time():
    orders = [
        np.concatenate(labels(ArrayBatches(arrays(100), SPECS, 32, seed=seed).epoch(epoch))).tolist()
        for seed, epoch in ((1, 0), (1, 1), (1, 2), (2, 0))
    ]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_inputs_and_labels_stay_together():
    for batch in ArrayBatches(arrays(), SPECS, 3, seed=1).epoch(0):
        np.testing.assert_array_equal(batch["x"], np.stack([batch["y"], -batch["y"]], 1))


@pytest.mark.parametrize("start", range(5))
def test_entering_an_epoch_anywhere(start):
    source = ArrayBatches(arrays(), SPECS, 3, seed=5)
    assert labels(source.epoch(2, start)) == labels(source.epoch(2))[start:]


def test_last_batch_can_be_left_out():
    source = ArrayBatches(arrays(), SPECS, 4, seed=0, drop_last=True)
    assert [len(batch["y"]) for batch in source.epoch(0)] == [4, 4]
    assert (source.count(), source.samples(), source.left_out) == (2, 8, 2)


def test_casting():
    (batch,) = ArrayBatches({"x": np.ones((2, 2)), "y": np.ones(2, np.uint8)}, SPECS, 2).epoch(0)
    assert (batch["x"].dtype, batch["y"].dtype) == (np.float32, np.int64)


def test_file_mapped_into_memory_is_checked_batch_by_batch(tmp_path):
    given = arrays()
    given["x"][7, 1] = np.nan
    np.save(tmp_path / "x.npy", given["x"])
    mapped = {**given, "x": np.load(tmp_path / "x.npy", mmap_mode="r")}
    source = ArrayBatches(mapped, SPECS, 2)
    stream = source.epoch(0)
    assert labels([next(stream) for _ in range(3)]) == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(DataError, match=r"x\[7, 1\] is nan"):
        next(stream)


def test_nan_in_memory_is_found_before_the_first_batch():
    given = arrays()
    given["x"][7, 1] = np.nan
    with pytest.raises(DataError, match=r"x\[7, 1\] is nan"):
        ArrayBatches(given, SPECS, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ArrayBatches(arrays(0), SPECS, 2),
            "the data set is empty: every array has 0 samples; give some",
        ),
        (lambda: ArrayBatches(arrays(), SPECS, 0), "batch size 0: a batch has at least one sample"),
        (
            lambda: ArrayBatches(arrays(), SPECS, 16, drop_last=True),
            "10 samples do not fill one batch of 16; use a smaller batch",
        ),
        (lambda: batches.source(arrays(), SPECS, None), "arrays need a batch size: pass batch_size"),
        (
            lambda: batches.source(tuple(arrays().values())[:1], SPECS, 2),
            "1 array given, the model wants 2: x, y, in this order",
        ),
        (lambda: batches.source(7, SPECS, 2), "int is no data: pass arrays, or an iterable of batches"),
        (lambda: list(StreamBatches([], SPECS).epoch(0)), NO_BATCH.format(0)),
        (
            lambda: list(StreamBatches([arrays(2)], SPECS).epoch(0, 5)),
            "the data has 1 batches, but the checkpoint was saved after batch 5 of the epoch; "
            "resume with the data that the run was started with",
        ),
        (
            lambda: list(StreamBatches([arrays(0)], SPECS).epoch(0)),
            "a batch is empty: x has 0 samples; leave it out",
        ),
        (
            lambda: batches.one(arrays(3), {**SPECS, "x": Spec("x", np.dtype(np.float32), (4, 2))}),
            "a batch has 3 samples, the model takes 4 at a time; leave out a last batch that is not full "
            "(drop_last), or convert a model with a free batch axis",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(DataError) as caught:
        call()
    assert str(caught.value) == message


def test_tuple_of_arrays_is_a_data_set_and_list_of_tuples_is_batches():
    pair = tuple(arrays(6).values())
    assert labels(batches.source(pair, SPECS, 4).epoch(0)) == [[0, 1, 2, 3], [4, 5]]
    assert labels(batches.source([pair, pair], SPECS, None).epoch(0)) == [list(range(6))] * 2


def test_single_array_for_a_single_input():
    source = batches.source(np.zeros((3, 2)), {"x": SPECS["x"]}, 2)
    assert [batch["x"].shape for batch in source.epoch(0)] == [(2, 2), (1, 2)]


def test_batches_as_dictionaries_lists_and_a_function_of_the_epoch():
    one = arrays(3)
    for data in ([one], [list(one.values())], lambda epoch: [one], ((one,))[0:1]):
        assert labels(StreamBatches(data, SPECS).epoch(0)) == [[0, 1, 2]]
    assert labels(StreamBatches(lambda epoch: [arrays(epoch + 1)], SPECS).epoch(2)) == [[0, 1, 2]]


def test_iterator_lasts_one_epoch():
    source = StreamBatches(iter([arrays(2)]), SPECS)
    assert source.count() is None
    assert labels(source.epoch(0)) == [[0, 1]]
    with pytest.raises(DataError, match="an iterator gives its batches once"):
        list(source.epoch(1))


def test_first_batches_come_again():
    for data in ([arrays(n) for n in (1, 2, 3)], iter([arrays(n) for n in (1, 2, 3)])):
        source = StreamBatches(data, SPECS)
        assert labels(source.first(2)) == [[0], [0, 1]]
        assert labels(source.epoch(0)) == [[0], [0, 1], [0, 1, 2]]


def test_array_first_batches():
    source = ArrayBatches(arrays(), SPECS, 3, seed=4)
    assert labels(source.first(2)) == labels(source.epoch(0))[:2]
    assert labels(source.first(9)) == labels(source.epoch(0))


def test_data_loader():
    torch = pytest.importorskip("torch")
    given = {name: torch.from_numpy(array) for name, array in arrays().items()}
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*given.values()), batch_size=4)
    source = batches.source(loader, SPECS, None)
    assert source.count() == 3
    assert labels(source.epoch(0)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert labels(source.epoch(1, 1)) == [[4, 5, 6, 7], [8, 9]]
    whole = batches.source(tuple(given.values()), SPECS, 5)
    assert labels(whole.epoch(0)) == [list(range(5)), list(range(5, 10))]


def test_tensors_that_have_a_gradient_or_no_numpy_type():
    torch = pytest.importorskip("torch")
    tracked = torch.ones(2, 2, requires_grad=True)
    assert batches.to_numpy(tracked, "x").tolist() == [[1, 1], [1, 1]]
    with pytest.raises(DataError, match=r"^x cannot be made a NumPy array .*; pass NumPy arrays$"):
        batches.to_numpy(torch.ones(2, dtype=torch.bfloat16), "x")
