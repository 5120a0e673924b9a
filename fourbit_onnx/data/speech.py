"""Speech: 25 words by synthetic voices, as log-mel energies: a task for recurrent models.

The speech is synthetic: espeak-ng, a formant synthesiser, said the words, in 8 accents of English, at various
speeds and pitches; no person did. ``speech.npz``, which tools/make_speech.py makes (and where the formula of
the features is), holds the sounds after echo, noise and a shift in time as energies in 40 mel bands of 40
frames, one every 20 ms, in steps of 3 dB.

A speaker is a voice of espeak-ng. Speakers of the test are not trained on.
"""

from importlib import resources

import numpy as np
from numpy.typing import NDArray

from fourbit_onnx.data.dataset import Dataset
from fourbit_onnx.data.draws import Draws
from fourbit_onnx.errors import DataError

# Whispers and effects: a classifier trained on other voices (two bidirectional LSTMs of 64 cells, five folds)
# finds fewer than seven of ten of their words. What hardly anyone understands would only blur comparisons.
LEFT_OUT = (
    *("Alicia", "Demonic", "Jacky", "Lee", "kaukovalta", "shelby", "steph", "whisper", "whisperf", "zac"),
)


def load(seed: int = 0, test: int = 14) -> Dataset:
    """Speech: ``features`` (N, 40, 40) float32, frames by mel bands; ``labels`` (N,) int64.

    Every speaker says every word three times. ``test`` speakers are held out; which ones depends on ``seed``
    alone. Each band has mean 0 and variance 1 over the training samples. Both parts keep the order of the
    file: speaker by speaker.

    Raises:
        DataError: ``test`` leaves no speaker in some part.
    """
    with np.load(str(resources.files("fourbit_onnx.data") / "speech.npz"), allow_pickle=False) as held:
        codes, labels, speakers = held["features"], held["labels"], held["speakers"]
        names, words = held["names"], held["words"]
    known = np.flatnonzero(~np.isin(names, LEFT_OUT))
    count = len(known)
    if not 1 <= test < count:
        raise DataError(f"the speech has {count} speakers: test takes 1 to {count - 1}, got {test}")
    order = known[Draws(seed).order(count)]
    rows = [np.isin(speakers, chosen) for chosen in (order[test:], order[:test])]
    mean, deviation = _moments(codes[rows[0]])
    parts = [
        {"features": (codes[part] - mean) / deviation, "labels": labels[part].astype(np.int64)}
        for part in rows
    ]
    return Dataset("speech", parts[0], parts[1], tuple(str(word) for word in words))


def _moments(codes: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each band, of sums of integers: exact, so the same on every machine."""
    flat = codes.reshape(-1, codes.shape[-1]).astype(np.int64)
    total, squares = flat.sum(0), (flat * flat).sum(0)
    variance = (len(flat) * squares - total * total) / len(flat) ** 2
    return (total / len(flat)).astype(np.float32), np.sqrt(variance).astype(np.float32)
