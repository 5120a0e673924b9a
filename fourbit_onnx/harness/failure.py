"""An error that ends a whole check: how a worker tells it, and how the command raises it again.

Two kinds must not be mixed up. What was asked for will not do (`REFUSALS`): the command has to be corrected,
and nothing of it is worth keeping. Or the machine will not do (a full disk, a folder that became read-only,
data on a drive that is gone): the same command is to go on later, with all that is saved.
"""

from collections.abc import Mapping
from pathlib import Path

from fourbit_onnx.artifacts import whole_file
from fourbit_onnx.errors import ArtifactError, DataError, FourbitError, GraphError, RecipeError

REFUSALS = (DataError, GraphError, RecipeError)
KEPT = "what is saved is kept, and the same command goes on with it"
_CLASSES = {kind.__name__: kind for kind in FourbitError.__subclasses__()}


def of_the_machine(error: OSError, folder: Path) -> ArtifactError:
    """An error of the operating system as a sentence, with the remedy.

    Args:
        error: It.
        folder: Where the check is; named if the error names no file.
    """
    place = error.filename or folder
    remedy = whole_file.remedy(error, folder)
    return ArtifactError(f"{place}: {error.strerror or error}; {remedy}: {KEPT}")


def told(error: FourbitError | OSError, folder: Path) -> dict[str, str]:
    """The fields of a worker's ``refused``: class and sentence.

    Data that the command could read (it took its digest) and its worker cannot is no bad data: that, too, is
    an ArtifactError.
    """
    if isinstance(error, OSError):
        error = of_the_machine(error, folder)
    cause = error.__cause__
    machine = isinstance(cause, OSError) and cause.errno is not None  # Pillow's "cannot identify" has none
    kind = ArtifactError if machine else type(error)
    return {"error": kind.__name__, "text": str(error)}


def raised(recipe: str, fields: Mapping[str, str]) -> FourbitError:
    """What `told` was told of a run of ``recipe``, to be raised: of the same class."""
    kind, text = _CLASSES.get(fields["error"], FourbitError), fields["text"]
    if not issubclass(kind, REFUSALS) and not text.endswith(KEPT):
        text = f"{text}; {KEPT}"
    return kind(f"{recipe}: {text}")
