"""What can go wrong in the tool: each is one sentence that says what to do, and has an exit code for scripts."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """How the tool ends."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    TROUBLE = 3
    """It did what it was asked, and what it looked at isn't as it should be."""
    FORBIDDEN = 4
    NOT_FOUND = 5
    UNEXPECTED = 70
    """What nobody thought of, as `sysexits.h` calls it."""


class Problem(Exception):  # noqa: N818 - what the user is told of
    """Something that the user is told in one sentence.

    Attributes:
        code: What the tool ends with.
    """

    code: ClassVar[Exit] = Exit.FAILED


class UsageProblem(Problem):
    """What was asked for makes no sense."""

    code = Exit.USAGE


class ForbiddenProblem(Problem):
    """The user lacks a right, which the message names.

    Attributes:
        right: It, in short.
    """

    code = Exit.FORBIDDEN

    def __init__(self, message: str, right: str = "") -> None:
        super().__init__(message)
        self.right = right


class NotFoundProblem(Problem):
    """The object isn't there."""

    code = Exit.NOT_FOUND


class ConflictProblem(Problem):
    """The object is there already, or another than was meant."""


def cause(error: BaseException, otherwise: str = "an unexpected error") -> str:
    """What went wrong, in a few words: no class of Python's is shown."""
    from asset_token_operator.causes import cause_of  # noqa: PLC0415 - only what fails needs it

    return cause_of(error, otherwise)
