"""Quantisers as text, as a plan has them: what is refused, and that there is one text for each."""

import pytest

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.recipes.recipe import Quantizer


@pytest.mark.parametrize("text", ["", "log4", "log4 even", "int4 absmax twice", "int4 absmax samples=two"])
def test_text_that_is_no_quantiser(text):
    with pytest.raises(RecipeError) as refusal:
        Quantizer.parse(text)
    assert str(refusal.value) == f"{text!r} is no quantiser, such as 'log4 odd gradient'"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("log4 even gradient dither=7", "log4 even gradient dither"),
        ("log4 even gradient 2.5", "log4 even gradient"),
        ("log2 underflow samples=2 stochastic", "log2 underflow stochastic samples=2"),
    ],
)
def test_text_that_is_written_another_way(text, written):
    """One quantiser, one text: plans are compared by it."""
    with pytest.raises(RecipeError) as refusal:
        Quantizer.parse(text)
    assert str(refusal.value) == f"{text!r} is not how a quantiser is written; {written!r} is"
