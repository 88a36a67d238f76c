"""Standard output as it may be: in a narrow encoding, closed, or read no further."""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""

_IN_ASCII = {"²": "2", "ᵀ": "'", "–": "-", "×": "x", "·": "*", "Σ": "sum "}
_ERRORS = "linreg_jax.in_ascii"


@contextlib.contextmanager
def prepared_streams() -> Iterator[None]:
    """Within, whatever is printed can be: letters that the terminal does not have are replaced.

    A closed standard error takes what is written to it and loses it. (Python would print it to
    standard output.)
    """
    with contextlib.ExitStack() as stack:
        if sys.stderr is None:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        stream = sys.stdout
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            codecs.register_error(_ERRORS, _in_ascii)
            stream.reconfigure(errors=_ERRORS)
            stack.callback(stream.reconfigure, errors="strict")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                flush()


def show(text: str) -> None:
    """Prints, unless nobody reads on (`| head`).

    Raises:
      OSError: it cannot be written, for another reason.
    """
    with _writing():
        print(text, flush=True)


def write_data(text: str) -> None:
    """Writes a file's content to standard output: in UTF-8, whatever the terminal's encoding.

    Raises:
      OSError: as `show` says.
    """
    with _writing():
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.flush()
            sys.stdout.buffer.write(text.encode())
        else:
            sys.stdout.write(text)
        sys.stdout.flush()


def require_output(fix: str) -> None:
    """Raises where standard output is closed (`>&-`), before there is anything to write.

    Raises:
      ValueError: it is; the message ends in `fix`.
    """
    if sys.stdout is None:
        raise ValueError(f"standard output is closed: {fix}")


def flush() -> None:
    """Writes what is still held back, unless nobody reads on.

    Raises:
      OSError: as `show` says.
    """
    with _writing():
        if sys.stdout is not None:
            sys.stdout.flush()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _abandon()
    except OSError as error:
        _abandon()
        raise OSError(error.errno, error.strerror, "standard output") from None


def _abandon() -> None:
    """Lets go of what could not be written, or the end of the process would try it again."""
    with contextlib.suppress(io.UnsupportedOperation):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """What stands for letters that an encoding lacks, as `codecs.register_error` wants it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(letter, "?") for letter in letters), error.end
