"""A run asks nobody outside this machine: no telemetry, no download, no name looked up."""

from pathlib import Path

from tests.conftest import Project

# Python imports a module of this name at every start, so that it watches the workers too.
WATCHER = """
import os, socket

def _note(what):
    with open(os.environ["OUTSIDE_LOG"], "a") as log:
        log.write(f"{what}\\n")

_connect, _lookup = socket.socket.connect, socket.getaddrinfo

def connect(self, address):
    if self.family != socket.AF_UNIX and not str(address[0]).startswith("127."):
        _note(f"connect {address}")
        raise OSError("outside")
    return _connect(self, address)

def lookup(host, *rest, **named):
    if host not in ("127.0.0.1", "localhost", None, ""):
        _note(f"lookup {host}")
        raise OSError("outside")
    return _lookup(host, *rest, **named)

socket.socket.connect, socket.getaddrinfo = connect, lookup
"""


def test_a_run_and_the_site_ask_nobody_outside(fresh_project: Project, tmp_path: Path) -> None:
    watcher, log = tmp_path / "watcher", tmp_path / "outside.log"
    watcher.mkdir()
    (watcher / "sitecustomize.py").write_text(WATCHER)
    for arguments in (["run"], ["docs"]):
        done = fresh_project.run(*arguments, is_cold=True, PYTHONPATH=str(watcher), OUTSIDE_LOG=str(log))
        assert done.returncode == 0, done.stdout + done.stderr
    assert not log.exists(), log.read_text()
    # The watcher did watch.
    nowhere = {"API_BASE_URL": "http://192.0.2.1", "MAX_RETRIES": "1"}
    seen = fresh_project.run("run", is_cold=True, PYTHONPATH=str(watcher), OUTSIDE_LOG=str(log), **nowhere)
    assert seen.returncode == 4
    assert "192.0.2.1" in log.read_text()


def test_the_pages_refer_to_nothing_outside(first_run: Project) -> None:
    for page in (first_run.root / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "http://" not in text, page
        assert "https://" not in text, page
        assert "<script" not in text, page
