"""Every way a command can end badly, each with the exit code that a scheduler sees."""


class PenstockError(Exception):
    """A failure that a user can act on: what happened, where, and what to do about it.

    Printed as one line, without a traceback unless `--debug`.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(self.one_line())

    def one_line(self) -> str:
        """`what (where): fix`, on one line whatever the parts hold."""
        line = self.what.rstrip().removesuffix(".")
        if self.where:
            line += f" ({self.where})"
        if self.fix:
            line += f": {self.fix}"
        return " ".join(line.split())


class ConfigError(PenstockError):
    """A setting that is misspelt, out of range or missing."""

    exit_code = 2


class LockedError(PenstockError):
    """Another process holds the run lock, the warehouse or the publish target."""

    exit_code = 3


class SourceError(PenstockError):
    """A source that could not be read; the other sources went on."""

    exit_code = 4


class BuildError(PenstockError):
    """dbt could not build or test the models."""

    exit_code = 5


class GateError(PenstockError):
    """A critical expectation failed, or more records than the threshold allows, so nothing is published."""

    exit_code = 6


class PublishError(PenstockError):
    """The publish target refused or was lost; it still shows the release before."""

    exit_code = 7


class BooksError(PenstockError):
    """The books do not balance, so nothing is published."""

    exit_code = 8


class StorageError(PenstockError):
    """The disk is full, or a folder cannot be written."""

    exit_code = 9
