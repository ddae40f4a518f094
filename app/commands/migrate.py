"""`headrace migrate`: brings the database to the newest schema and makes the first admin."""

from __future__ import annotations

from app.commands.box import prepared
from app.commands.console import out, t
from app.settings import settings


def migrate() -> None:
    """Bring the database to the newest schema; the first time, make the user admin and show the password, once."""
    engine, password = prepared(settings(), None)
    engine.dispose()
    if password is not None:
        out.print(t("First password of admin (shown once): {password}", password=password), style="bold", markup=False)
