"""Where marts are published to: DATABASE_URL, or the embedded Postgres, started for as long as it is needed."""

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from foundation.errors import PenstockError, PublishError
from foundation.settings import Settings

if TYPE_CHECKING:
    from publishing.target import Destination


class PublishTarget:
    """The publish target's connection string; the embedded Postgres starts in the background and stops as found."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._thread: threading.Thread | None = None
        self._dsn: str | None = None
        self._error: Exception | None = None

    def start(self) -> None:
        """Have the server started, where it is the embedded one."""
        if self._settings.database_url is not None:
            self._dsn = self._settings.database_url.get_secret_value()
            return
        from publishing import embedded

        if not embedded.is_running(self._settings.work_dir):
            self._stack.callback(self._stop)
        self._thread = threading.Thread(target=self._start_embedded, name="embedded-postgres")
        self._thread.start()

    def _start_embedded(self) -> None:
        from publishing import embedded

        try:
            self._dsn = embedded.start(self._settings.work_dir)
        except Exception as error:  # noqa: BLE001 - raised where the target is needed
            self._error = error

    def _stop(self) -> None:
        from publishing import embedded

        if self._thread is not None:
            self._thread.join()  # one that is still making the data would launch the server after this
        embedded.stop(self._settings.work_dir)

    def destination(self) -> "Destination":
        """Where to publish to, once the server is there. Raises PublishError when it does not start."""
        from publishing.target import Destination

        return Destination(
            self._wait(),
            self._settings.database_schema,
            self._settings.lock_timeout_seconds,
            self._settings.statement_timeout_seconds,
            self._settings.retention,
            self._settings.roles,
        )

    def _wait(self) -> str:
        if self._thread is not None:
            self._thread.join()
        if isinstance(self._error, PenstockError):
            raise self._error
        if self._error is not None or self._dsn is None:
            raise PublishError(f"the embedded Postgres does not start: {self._error}", fix="set DATABASE_URL")
        return self._dsn
