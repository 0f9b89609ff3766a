"""The error of a build that stops for a reason its user can act on."""


class BuildError(Exception):
    """A build cannot go on; the message says what was found and what to do."""
