"""The command `headrace`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from app import settings
from app.commands import console, demo, look, migrate, plant, show, up
from app.commands.running import Data, choose_data, known


class Commands(TyperGroup):
    """Commands that take `--lang` before and after their name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own copy of click
        """Put `--lang` where the group looks for it."""
        end = args.index("--") if "--" in args else len(args)
        for index, word in enumerate(args[:end]):
            if word == "--lang" or word.startswith("--lang="):
                taken = args[index : index + (2 if word == "--lang" else 1)]
                return super().parse_args(ctx, [*taken, *args[:index], *args[index + len(taken) :]])
        return super().parse_args(ctx, args)


main = typer.Typer(
    name="headrace",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    help="Headrace 引渠: plant data to models and answers back.",
)


@main.callback()
def _before(
    *,
    data: Data = None,
    lang: Annotated[str, typer.Option(help="en or zh-CN; the locale's by default.")] = "",
) -> None:
    """Choose data folder and language for every command."""
    console.choose(lang)
    settings.use(known(settings.Settings()))
    choose_data(data)


main.command()(plant.init)
main.command()(plant.check)
main.command()(plant.apply)
main.command()(plant.revisions)
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
