"""`penstock docs` and `penstock serve`: the report site, from the ledger and dbt's own documentation."""

import functools
import http.server
import shutil
from pathlib import Path

from rich.console import Console

from foundation.errors import ConfigError
from foundation.events import ignore
from foundation.settings import Settings
from operations.build import MODULE, generate_docs, require_models
from operations.lock import run_lock
from operations.showing import say
from operations.workers import Worker


def make_site(root: Path, settings: Settings) -> list[Path]:
    """Write the site anew; its pages. Raises BuildError when dbt cannot document the models, ConfigError for none."""
    from operations.site.pages import render_site

    require_models(root)
    log = settings.work_dir / "logs" / "workers.log"
    with (
        run_lock(settings.work_dir, command="docs"),
        Worker(MODULE, root, log) as worker,
    ):
        made = generate_docs(worker, settings, ignore)
        page = settings.site_dir / "dbt" / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, page.with_suffix(".tmp"))
        page.with_suffix(".tmp").replace(page)
        return [*render_site(settings.warehouse, settings.site_dir), page]


def serve_site(site_dir: Path, port: int, console: Console) -> None:
    """Serve the site on 127.0.0.1 until interrupted. Raises ConfigError when there is none or the port is taken."""
    if not (site_dir / "index.html").exists():
        raise ConfigError("there is no report site yet", where=str(site_dir), fix="penstock docs")
    handler = functools.partial(_Quiet, directory=str(site_dir))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise ConfigError(f"port {port} cannot be used: {error.strerror}", fix="penstock serve --port 0") from error
    with server:
        say(console, f"http://127.0.0.1:{server.server_address[1]}/")
        server.serve_forever()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing for each page that is looked at."""
