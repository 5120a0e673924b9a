"""The scripts that made data and coefficients that are shipped, held against them."""

import importlib.util
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import pytest

from fourbit_onnx.ops.reference.gelu import CDF, SLOPE
from fourbit_onnx.ops.reference.lstm_cell import TANH

TOOLS = Path(__file__).parents[1] / "tools"


def tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shipped(name):
    with np.load(str(resources.files("fourbit_onnx.data") / f"{name}.npz")) as held:
        return dict(held)


@pytest.mark.skipif(onnx.__version__ != "1.23.2", reason="the text is that of onnx 1.23.2")
def test_text_is_what_the_script_makes(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["make_text.py", "-o", str(tmp_path / "text.npz")])
    tool("make_text").main()
    with np.load(tmp_path / "text.npz") as made:
        for name, array in shipped("text").items():
            np.testing.assert_array_equal(made[name], array)


def test_text_repeats_nothing_much():
    new = tool("make_text").new
    seen = set()
    first = "Computes the sine of the given input tensor, element by element."
    assert new(first, seen, 0.3)
    assert not new(first.replace("sine", "SINE") + " 2", seen, 0.3)
    assert new("Loads and decodes an image from a file, in one of several formats.", seen, 0.3)


def test_glyphs_are_what_the_script_draws():
    """Some characters of every face; another FreeType may smooth edges a little otherwise."""
    script, held = tool("make_glyphs"), shipped("glyphs")
    assert "".join(held["characters"]) == script.CHARACTERS
    assert tuple(held["faces"]) == script.FACES
    for face, bitmaps in zip(script.FACES, held["bitmaps"], strict=True):
        font = script.font_of(face)
        for character in "8Rg":
            drawn = script.draw(font, character).astype(int)
            there = bitmaps[script.CHARACTERS.index(character)]
            assert np.abs(drawn - there).mean() < 2, (face, character)


def test_a_tone_is_in_its_mel_band():
    script = tool("make_speech")
    filters = script.mel_filters()
    time = np.arange(script.LENGTH) / script.RATE
    corners = np.linspace(*(2595 * np.log10(1 + np.array([script.LOW, script.HIGH]) / 700)), script.BANDS + 2)
    for band in (5, 20, 39):
        frequency = 700 * (10 ** (corners[band + 1] / 2595) - 1)
        found = script.codes(np.sin(2 * np.pi * frequency * time), filters)
        assert found.shape == (script.FRAMES, script.BANDS)
        assert (found.argmax(1) == band).all()


def test_half_the_amplitude_is_two_steps_of_three_decibels_less():
    script = tool("make_speech")
    filters = script.mel_filters()
    noise = np.random.default_rng(0).standard_normal(script.LENGTH)
    noise[script.LENGTH // 2 :] = 0.5 * noise[: script.LENGTH - script.LENGTH // 2]
    found = script.codes(noise, filters).astype(float)
    # Frames 1 to 18 are of the loud half and 21 to 38 of the soft one. A band of a frame is a sum of squares
    # of at least one bin: its level in decibels has a standard deviation below 5.6 (of an exponential), so
    # the difference of two means of 18 * 40 has one of 0.3 dB.
    drop = script.STEP * (found[1:19].mean() - found[21:39].mean())
    assert drop == pytest.approx(20 * np.log10(2), abs=4 * 0.3)


def test_speakers_hold_all_takes_of_a_voice(tmp_path, monkeypatch):
    script = tool("make_speech")
    for name in (
        "f1",
        "f2",
        "m3",
        "edward",
        "edward2",
        "klatt4",
        "caleb",
        "anika",
        "anikaRobot",
        "Mr serious",
    ):
        (tmp_path / name).touch()
    monkeypatch.setattr(script, "VARIANTS", tmp_path)
    assert script.speakers() == {
        "Mr serious": ["Mr serious"],
        "anika": ["anika", "anikaRobot"],
        "klatt": ["caleb", "klatt4"],
        "edward": ["edward", "edward2"],
        "f1": ["f1"],
        "f2": ["f2"],
        "m3": ["m3"],
    }


def test_every_bit_of_the_speech_has_its_place():
    script, held = tool("make_speech"), shipped("speech")
    assert tuple(held["words"]) == script.WORDS
    assert held["features"].shape[1:] == (script.FRAMES, script.BANDS)
    assert held["features"].max() == script.LEVELS - 1
    counts = np.zeros((len(held["names"]), len(script.WORDS)), int)
    np.add.at(counts, (held["speakers"], held["labels"]), 1)
    assert (counts == script.TIMES).all()


@pytest.mark.parametrize(("name", "held"), [("CDF", CDF), ("SLOPE", SLOPE), ("TANH", TANH)])
def test_the_coefficients_are_what_the_script_fits(name, held):
    """Rounded to float32. Noise of 1e-16 in the points moves a coefficient by 1e-8 of it (SLOPE), a sixth of
    what rounding may: another linear algebra may round one the other way, to its neighbour."""
    script = tool("fit_odd_ratios")
    function, limit, top, bottom = script.FITS[name]
    p, q, error = script.fit(function, limit, top, bottom)
    assert limit == held.limit
    assert error < (2.0**-25 if name == "TANH" else 2.0**-26)  # half of float32's rounding below 1, 1/2
    np.testing.assert_array_max_ulp(np.float32(p), np.float32(held.p), 1)
    np.testing.assert_array_max_ulp(np.float32(q), np.float32(held.q), 1)
