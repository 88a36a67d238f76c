"""The files that a command writes: looked at before any work is done, written before any report."""

import itertools
import os
from collections.abc import Callable, Sequence

from linreg_jax._files import STANDARD_INPUT, is_same_file, is_stream, require_writable

Output = tuple[str | None, Callable[[str], object]]


def require_outputs(inputs: Sequence[str], outputs: Sequence[str | None]) -> None:
    """Raises where a file cannot be written, or would take the place of another.

    Args:
      inputs: the files that are read.
      outputs: those that are to be written; None: not asked for.

    Raises:
      OSError: as `require_writable` says.
      ValueError: an output that is an input or another output, through links too.
    """
    asked = [path for path in outputs if path is not None]
    for path in asked:
        require_writable(path)
    files = [path for path in asked if not is_stream(path)]
    for read, path in itertools.product(inputs, files):
        if is_same_file("/dev/stdin" if read == STANDARD_INPUT else read, path):
            shown = "standard input" if read == STANDARD_INPUT else read
            which = "" if shown == path else f"{shown}, "
            raise ValueError(f"{path} is {which}an input: give the output another name")
    for one, other in itertools.combinations(files, 2):
        if is_same_file(one, other):
            raise ValueError(f"two outputs have the same name, {other}: give each its own")
    for path in files:
        if os.path.isfile("/dev/stdout") and is_same_file("/dev/stdout", path):
            raise ValueError(f"standard output goes to {path} too: give one of them another name")


def write_outputs(*outputs: Output) -> None:
    """Writes each file that was asked for, the others too where one fails.

    Args:
      outputs: `(path, write)`, where `write(path)` writes it; a path of None was not asked for.

    Raises:
      OSError, ValueError: the first that a file raised.
      KeyboardInterrupt: Ctrl-C, with what was written by then.
    """
    written: list[str] = []
    failures: list[OSError | ValueError] = []
    asked = [(path, write) for path, write in outputs if path is not None]
    # A pipe may be read no further: it comes last.
    for path, write in sorted(asked, key=lambda output: is_stream(output[0])):
        try:
            write(path)
        except (OSError, ValueError) as error:
            failures.append(error)
        except KeyboardInterrupt:
            done = f"{', '.join(written)} was written" if written else ""
            raise KeyboardInterrupt(done) from None
        else:
            written.append(path)
    if failures:
        raise failures[0]
