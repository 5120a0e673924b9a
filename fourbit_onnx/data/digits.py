"""Handwritten digits, 1,797 images of 8x8 pixels: real data that comes with the package.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licence CC BY 4.0. ``digits.npz`` holds the 1,797 images of its test set (the
ones in scikit-learn's ``load_digits``), unchanged: uint8, 0 to 16 black pixels in each 4x4 cell of a scan.
"""

from importlib import resources

import numpy as np
from numpy.typing import NDArray

from fourbit_onnx.data.dataset import Dataset
from fourbit_onnx.errors import DataError


def load(seed: int = 0, test: int = 360) -> Dataset:
    """Digits: ``image`` (N, 1, 8, 8) float32, exact multiples of 1/16 in [0, 1]; ``labels`` (N,) int64.

    ``test`` samples are held out, from each class in proportion to its size (within one); which ones depends
    on ``seed`` alone. Both parts keep the order of the data set. The same writers are in both parts: the data
    set does not say who wrote what.

    Raises:
        DataError: ``test`` leaves no sample to train on, or none of some class on either side.
    """
    with np.load(str(resources.files("fourbit_onnx.data") / "digits.npz"), allow_pickle=False) as held:
        pixels, digits = held["images"], held["labels"]
    images = (pixels[:, None] / np.float32(16)).astype(np.float32)
    labels = digits.astype(np.int64)
    if not 10 <= test <= len(labels) - 10:
        raise DataError(
            f"the digits have {len(labels)} samples of 10 classes: test takes 10 to 1787, got {test}"
        )
    out = _stratified(labels, test, seed)
    parts = [{"image": images[rows], "labels": labels[rows]} for rows in (~out, out)]
    return Dataset("digits", parts[0], parts[1], tuple("0123456789"))


def _stratified(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.bool_]:
    """A mask of ``count`` samples, from each class its share; the largest remainders get what is left."""
    sizes = np.bincount(labels)
    quota, remainder = np.divmod(sizes * count, len(labels))
    quota[np.argsort(-remainder, kind="stable")[: count - quota.sum()]] += 1
    # Raw integers: NumPy promises these, unlike its permutations, never to change.
    keys = np.asarray(np.random.PCG64(seed).random_raw(len(labels)), np.uint64)
    mask = np.zeros(len(labels), np.bool_)
    for label, size in enumerate(quota):
        rows = np.flatnonzero(labels == label)
        mask[rows[np.argsort(keys[rows], kind="stable")[:size]]] = True
    return mask
