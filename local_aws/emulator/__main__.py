"""Emulator of AWS: `python -m local_aws.emulator`."""

import sys

from local_aws.emulator.ministack.names import MissingNamesError, check


def main() -> None:
    """Check the installed MiniStack, then serve."""
    try:
        check()
    except MissingNamesError as error:
        sys.exit(str(error))
    # Not at the top, because this imports the names that are checked.
    from local_aws.emulator import server

    server.serve()


if __name__ == "__main__":
    main()
