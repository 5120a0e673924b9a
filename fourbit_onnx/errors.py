"""The exceptions of fourbit_onnx.

FourbitError
├── FormatError      a number that a format cannot represent
├── GraphError       a model or graph that a pass cannot accept
├── RecipeError      a recipe that asks for what does not exist
├── DataError        data that cannot be read, or does not fit the model
├── ArtifactError    an artifact folder or checkpoint that is damaged, missing or of another version
├── TrainingError    a training run that cannot go on
└── LibraryError     the native library is absent, broken, or of another version

A message is one sentence: where, what was found, what was expected, what to do.
"""

import contextlib
from collections.abc import Iterable, Iterator


class FourbitError(Exception):
    """Base of all; the command line prints it as one sentence and exits with 1.

    Attributes:
        wrong_use: Whether what was asked for cannot be, whatever the files hold; then it exits with 2.
    """

    wrong_use = False


class FormatError(FourbitError):
    """A number that a format cannot represent."""


class GraphError(FourbitError):
    """A model or graph that a pass cannot accept."""


class RecipeError(FourbitError):
    """A recipe that asks for what does not exist."""


class DataError(FourbitError):
    """Data that cannot be read, or does not fit the model."""


class ArtifactError(FourbitError):
    """An artifact folder or checkpoint that is damaged, missing or of another version."""


class TrainingError(FourbitError):
    """A training run that cannot go on."""


class LibraryError(FourbitError):
    """The native library is absent, broken, or of another version."""


@contextlib.contextmanager
def as_wrong_use() -> Iterator[None]:
    """Mark what is raised inside: due to what was asked for alone, not to what a file or machine has."""
    try:
        yield
    except FourbitError as error:
        error.wrong_use = True
        raise


def meant(word: str, words: Iterable[str]) -> str:
    """`` (is 'train' meant?)`` for a word that is nearly one of ``words``; "" for any other."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(words), n=1)
    return f" (is {near[0]!r} meant?)" if near else ""


_EXTRAS = {"check": "jinja2 scipy", "images": "pillow", "plot": "matplotlib"}  # pyproject.toml has them, too


def not_installed(package: str, extra: str) -> str:
    """The sentence for a package that is missing, and what the extra of ours that needs it brings."""
    return f"{package} is not installed; add it with: pip install {_EXTRAS[extra]} (the extra {extra!r})"
