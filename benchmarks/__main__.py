"""`python -m benchmarks`: sets the number of threads, and only then imports what reads it."""

import sys

from benchmarks.threads import one_thread_a_core


def main() -> int:
    """Runs the command with the arguments of this process."""
    one_thread_a_core()
    from benchmarks.command import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
