"""One memory arena for all sessions of the process, so that each has what the others have given back."""

import functools
import logging

import onnxruntime as ort

# A free chunk is cut when more than this would be left over; as it comes, ONNX Runtime hands out whole chunks
# that are up to twice as long as what was asked for.
_MOST_LEFT_OVER = 1 << 16
_log = logging.getLogger(__name__)


def share(options: ort.SessionOptions) -> None:
    """Make the session of ``options`` take its memory from the common arena.

    New parameters and moments then lie where the activations of the same step lay, and an evaluation costs
    no memory of its own. The arena keeps its memory until the process ends. Sessions that others make in
    this process are not concerned.

    The session plans no pattern of memory: with one, ONNX Runtime asks for all that a run needs as one block,
    from its second run on, which fits nowhere between the parameters and the chunks of the first run.
    """
    _register()
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_env_allocators", "1")


@functools.cache
def _register() -> None:
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    try:
        ort.create_and_register_allocator(
            memory, ort.OrtArenaCfg({"max_dead_bytes_per_chunk": _MOST_LEFT_OVER})
        )
    except RuntimeError as error:  # ONNX Runtime has one a process: this program has made its own
        _log.debug("the sessions use the arena that is there: %s", error)
