"""The command `headrace`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app import settings
from app.commands import console, demo, look, migrate, plant, show, up
from app.commands.running import known

main = typer.Typer(
    name="headrace",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    help="Headrace 引渠: plant data to models and answers back.",
)


@main.callback()
def _before(
    *,
    data: Annotated[Path | None, typer.Option(help="Data folder; HEADRACE_DATA_DIR by default.")] = None,
    lang: Annotated[str, typer.Option(help="en or zh-CN; the locale's by default.")] = "",
) -> None:
    """Choose data folder and language for every command."""
    console.choose(lang)
    choose_data(data)


def choose_data(data: Path | None) -> None:
    """Use this data folder, and what a gateway that runs on it says of its servers."""
    chosen = settings.Settings() if data is None else settings.Settings(data_dir=data)
    settings.use(known(chosen))


main.command()(plant.init)
main.command()(plant.check)
main.command()(plant.apply)
main.command()(plant.schema)
main.command()(up.up)
main.command()(migrate.migrate)
main.command()(demo.demo)
main.command()(show.status)
main.command()(show.ledger)
main.command()(show.devices)
main.command("try")(look.attempt)

if __name__ == "__main__":
    main()
