"""The command `headrace`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from app import engines, settings
from app.commands import (
    backup,
    browse,
    certify,
    conform,
    conform_check,
    console,
    demo,
    endpoints,
    letters,
    lint_model,
    listen,
    look,
    migrate,
    model,
    outbox,
    past,
    plant,
    selftest,
    show,
    tags,
    trust,
    up,
    vendors,
)
from app.commands.helps import in_chinese
from app.commands.running import Data, choose_data, known
from app.db import LaterSchemaError, UnreachableError

LATER: Final = (
    "Made by a later release of Headrace (schema {revision}): install that release or a newer one. Nothing was changed."
)


class Spoken(TyperGroup):
    """Commands that explain themselves in the language in use."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - typer's own copy of click
        """A command, with its help in the language in use."""
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            _translate(found)
            _told(found.get_help_option(ctx))
        return found

    def get_help_option(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own copy of click
        """`--help` itself."""
        return _told(super().get_help_option(ctx))


class Commands(Spoken):
    """All of them: they take `--lang` before and after their name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own copy of click
        """Put `--lang` where the group looks for it."""
        taken, rest = _taken(args)
        # Before anything is parsed: `--help` prints while it is.
        console.choose(taken[-1].removeprefix("--lang=") if taken else "")
        _translate(self)
        return super().parse_args(ctx, [*taken, *rest])

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own copy of click
        """Run a command; a database that is away, or of a later release, is a sentence, not a traceback."""
        try:
            return super().invoke(ctx)
        except LaterSchemaError as error:
            raise console.fail(console.t(LATER, revision=error.revision)) from error
        except UnreachableError as error:
            if error.statement is not None:
                raise
            said = str(error.orig).strip().splitlines()[0]
            raise console.fail(console.t("The database does not answer: {reason}", reason=said)) from error


def _taken(args: list[str]) -> tuple[list[str], list[str]]:
    """`--lang` with its value, and the other words."""
    end = args.index("--") if "--" in args else len(args)
    for index, word in enumerate(args[:end]):
        if word == "--lang" or word.startswith("--lang="):
            after = index + (2 if word == "--lang" else 1)
            return args[index:after], [*args[:index], *args[after:]]
    return [], args


def _translate(command: Any) -> None:  # noqa: ANN401 - typer's own copy of click
    if console.chinese():
        for one in (command, *command.params):
            _told(one)


def _told(one: Any) -> Any:  # noqa: ANN401 - typer's own copy of click
    if one is not None and one.help and console.chinese():
        one.help = in_chinese(one.help)
    return one


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
    """Choose the data folder for every command; the language was chosen before anything was parsed."""
    del lang
    settings.use(known(settings.Settings()))
    choose_data(data)
    engines.use(settings.settings())


main.command()(plant.init)
main.command()(plant.check)
main.command()(plant.apply)
main.command()(plant.revisions)
main.command()(plant.schema)
main.command()(up.up)
main.command()(migrate.migrate)
main.command()(backup.backup)
main.command()(backup.restore)
main.command()(demo.demo)
main.command()(selftest.selftest)
main.command()(show.status)
main.command()(show.ledger)
main.command()(show.gaps)
main.command()(show.devices)
main.command()(vendors.vendors)
main.command("lint-model")(lint_model.lint_model)
conformance = typer.Typer(cls=Spoken, invoke_without_command=True)
conformance.callback()(conform.conform)
conformance.command()(conform_check.verify)
conformance.command("import")(conform_check.file_report)
conformance.command("list")(conform_check.listed)
main.add_typer(conformance, name="conform")
main.command()(certify.certify)
main.command()(certify.certificates)
packages = typer.Typer(cls=Spoken, no_args_is_help=True, help="Model packages: the store, and signatures.")
packages.command("import")(model.import_)
packages.command("sign")(model.sign)
packages.command("verify")(model.verify)
main.add_typer(packages, name="model")
main.command("try")(look.attempt)
main.command()(endpoints.endpoints)
trusted = typer.Typer(cls=Spoken, invoke_without_command=True)
trusted.callback()(trust.listed)
trusted.command()(trust.accept)
trusted.command()(trust.reject)
trusted.command()(trust.remove)
trusted.command()(trust.own)
trusted.command()(trust.switch)
main.add_typer(trusted, name="trust")
dead = typer.Typer(cls=Spoken, invoke_without_command=True)
dead.callback()(letters.listed)
dead.command()(letters.show)
dead.command()(letters.mend)
dead.command()(letters.replay)
dead.command()(letters.drop)
main.add_typer(dead, name="dead-letters")
main.command("replay-outbox")(outbox.replay)
main.command()(browse.browse)
main.command()(browse.read)
main.command()(listen.listen)
tables = typer.Typer(cls=Spoken, no_args_is_help=True, help="The tags of a plant file as a table, and back.")
tables.command("export")(tags.export)
tables.command("import")(tags.import_)
main.add_typer(tables, name="tags")
history = typer.Typer(cls=Spoken, no_args_is_help=True, help="Readings of the past into files, and back.")
history.command("export")(past.export)
history.command("import")(past.import_)
main.add_typer(history, name="history")

if __name__ == "__main__":
    main()
