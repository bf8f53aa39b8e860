"""`penstock new`: its subcommand and the options."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from operations.showing import say


def commands(root: Callable[[], Path], console: Callable[[], Console]) -> typer.Typer:
    """The subcommands, over the root and the console of the command line."""
    app = typer.Typer(help="Begin something: a source with all that it needs.", no_args_is_help=True)

    @app.callback()
    def group() -> None:
        """A group, so that `source` is named."""

    @app.command()
    def source(
        name: Annotated[str, typer.Argument(help="<system>__<things>, such as shop__orders.")],
        address: Annotated[str, typer.Option("--from", metavar="PATH|URL", help="A file, a glob, s3://... or an API.")],
        domain: Annotated[str | None, typer.Option(help="A new or existing domain; default: the things.")] = None,
        kind: Annotated[
            Literal["csv", "json", "parquet", "api"] | None,
            typer.Option("--type", help="Where it is not seen rightly."),
        ] = None,
        key: Annotated[
            list[str] | None, typer.Option("--key", help="A field that names a record; may be given again.")
        ] = None,
        records_path: Annotated[
            str | None, typer.Option(help="Dotted path in the answer of an API to the list of records.")
        ] = None,
        auth: Annotated[
            str | None,
            typer.Option(
                help="bearer:NAME, api_key:NAME, api_key:NAME:Header or basic:USER_NAME:PASSWORD_NAME; each NAME a "
                "variable of the environment."
            ),
        ] = None,
        pagination: Annotated[
            str | None, typer.Option(help="As in penstock.yml: '{type: page, page_param: p}'.")
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written; write nothing.")] = False,
    ) -> None:
        """Look at a file or an API and write its entry, models, tests and suites, which build at once."""
        from operations.scaffold.command import Wish, new_source

        wish = Wish(name, address, domain, kind, tuple(key or ()), records_path, auth, pagination)
        new_source(root(), wish, functools.partial(say, console()), dry_run=dry_run)

    return app
