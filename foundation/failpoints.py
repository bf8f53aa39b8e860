"""Failpoints: named steps at which PENSTOCK_FAILPOINT ends the process or raises an error; tests prove recovery so.

The variable is `name`, `name:3` for the third passing of it, and `name:3:error` for an OSError in place of SIGKILL.
"""

import errno
import os
import signal
import threading
from dataclasses import dataclass, field

VARIABLE = "PENSTOCK_FAILPOINT"


@dataclass
class _Armed:
    """The one failpoint that is wanted, and how often it has still to be passed."""

    name: str
    left: int
    is_error: bool
    guard: threading.Lock = field(default_factory=threading.Lock)


_armed: _Armed | None = None


def arm() -> None:
    """Read the variable; done at import, and again by a process that changed its environment."""
    global _armed
    text = os.environ.get(VARIABLE, "")
    name, _, rest = text.partition(":")
    passing, _, action = rest.partition(":")
    _armed = _Armed(name, int(passing or 1), action == "error") if name else None


def failpoint(name: str) -> None:
    """A step that is wholly done here, by its unique name."""
    if _armed is not None and _armed.name == name:
        _pass(_armed)


def _pass(armed: _Armed) -> None:
    with armed.guard:
        armed.left -= 1
        if armed.left:
            return
    if armed.is_error:
        raise OSError(errno.EIO, f"failpoint {armed.name}")
    os.kill(os.getpid(), signal.SIGKILL)


arm()
