"""The error of a build that stops for a reason the user can fix."""


class BuildError(Exception):
    """A failed build; the message gives the reason and the fix."""
