"""How a process of ours is started: with the modules of this one."""

import sys


def command(module: str, *arguments: str) -> list[str]:
    """Python that runs ``module`` as ``__main__``, from where this process has its modules.

    ``python -m`` would look into the current folder first: a checkout there is another package, without the
    native library.
    """
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; import runpy; "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-c", program, *arguments]
