"""One memory arena for all sessions of the process, so that each has what the others have given back."""

import functools
import logging

import onnxruntime as ort

_log = logging.getLogger(__name__)


def share(options: ort.SessionOptions) -> None:
    """Make the session of ``options`` take its memory from the common arena.

    New parameters and moments then lie where the activations of the same step lay, and an evaluation costs
    no memory of its own. The arena keeps its memory until the process ends. Sessions that others make in
    this process are not concerned.
    """
    _register()
    options.add_session_config_entry("session.use_env_allocators", "1")


@functools.cache
def _register() -> None:
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    try:
        ort.create_and_register_allocator(memory, None)
    except RuntimeError as error:  # ONNX Runtime has one a process: this program has made its own
        _log.debug("the sessions use the arena that is there: %s", error)
