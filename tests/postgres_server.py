"""A Postgres of a test's own: on 127.0.0.1, asking for a password, stopped and started at will."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg

from publishing import embedded_home
from publishing.embedded_home import Place

PASSWORD = "s3cr@t/ p%ss:wörd"
IN_MEMORY = Path("/dev/shm")
BASE = IN_MEMORY if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > 2**30 else Path("/tmp")
NOTICED_SECONDS = 1.0  # in which it lets people in although one of its processes has crashed
START_SECONDS = 60.0


class PostgresServer:
    """A server whose data lie in `folder`, by default from the embedded Postgres's programs; it is not yet started.

    `hba` is its pg_hba.conf; the rest are settings of the server.
    """

    def __init__(self, folder: Path, programs: Path | None = None, *, hba: str | None = None, **settings: str) -> None:
        user = embedded_home.server_user() if os.geteuid() == 0 else None
        self.place = Place(folder / "data", user)
        self.programs = programs or embedded_home.programs(self.place)
        self.settings = settings
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        password = self.give(folder / "password", PASSWORD)
        self.place.data.mkdir(mode=0o700)
        embedded_home.hand_over(self.place.data, self.place)
        command = [str(self.programs / "initdb"), "-D", str(self.place.data), "-U", "postgres", "--no-sync"]
        command += ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C"]
        made = subprocess.run(command, capture_output=True, text=True, check=False, **embedded_home.run_as(self.place))  # type: ignore[call-overload]
        assert made.returncode == 0, made.stderr
        password.unlink()
        if hba is not None:
            (self.place.data / "pg_hba.conf").write_text(hba)

    def give(self, path: Path, text: str) -> Path:
        """A file that only the server may read."""
        path.touch(mode=0o600)
        path.write_text(text)
        embedded_home.hand_over(path, self.place)
        return path

    def start(self) -> None:
        """Start it and wait until it lets us in."""
        command = [str(self.programs / "postgres"), "-D", str(self.place.data), "-h", "127.0.0.1", "-k", ""]
        for name, value in {"port": str(self.port), **self.settings}.items():
            command += ["-c", f"{name}={value}"]
        with self.place.log.open("ab") as log:
            self._process = subprocess.Popen(  # type: ignore[call-overload]
                command, stdout=log, stderr=log, start_new_session=True, **embedded_home.run_as(self.place)
            )
        assert self._answers(), self.place.log.read_text()[-2000:]

    def recover(self) -> None:
        """Wait until it is back after a crash; start it where that has ended it."""
        time.sleep(NOTICED_SECONDS)
        if not self._answers():
            self.start()

    def _answers(self) -> bool:
        """Whether it lets us in, be it after a while; False when it has ended."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url()).close()
                return True
            time.sleep(0.02)
        return False

    def stop(self, how: int = signal.SIGINT) -> None:
        """Stop it: SIGINT ends all sessions (`-m fast`), SIGQUIT leaves all as it is (`-m immediate`)."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_SECONDS)

    def restart(self, how: int = signal.SIGINT) -> None:
        """Stop it, where it runs, and start it."""
        self.stop(how)
        self.start()

    def url(self, database: str = "postgres", *, user: str = "postgres", host: str = "localhost", **more: str) -> str:
        """The connection string, with the password and more parameters."""
        place = f"{user}:{quote(PASSWORD, safe='')}@{host}:{self.port}/{database}"
        return f"postgresql://{place}?{urlencode(more, quote_via=quote)}"

    def create_database(self, options: str = "") -> str:
        """A new database; its name."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"create database {name} {options}".encode())
        return name


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that the server's user can enter, as it cannot those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="pk", dir=BASE))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
