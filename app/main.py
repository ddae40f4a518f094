"""The web API: every feature's routes, metrics, health and the start page, over one database."""

from __future__ import annotations

import importlib
import pkgutil
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

import app as rooms
from app import api, engines, log
from app.db import make_engine
from app.serving.api import OpenInference
from app.serving.service import ASIDE_S, Serving
from app.settings import Settings, settings
from inference.limits import MIB
from inference.microbatch import Pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Engine

STATIC = Path(__file__).parent / "static"


def features() -> tuple[str, ...]:
    """Every feature folder that has an `api` module, sorted."""
    folders = (m.name for m in pkgutil.iter_modules(rooms.__path__) if m.ispkg)
    return tuple(sorted(f for f in folders if (Path(rooms.__path__[0]) / f / "api.py").exists()))


def make_serving(engine: Engine, here: Settings) -> Serving:
    """What `/v2` offers, as the settings say."""
    return Serving(
        engine=engine,
        store=here.data_dir / "models",
        devices=here.serve,
        pace=Pace(budget_s=here.serve_budget_ms / 1000, aside_s=ASIDE_S),
        memory_bytes=here.serve_memory_mb * MIB,
        overrides=here.serve_override,
    )


def make_app(database_url: str, here: Settings | None = None) -> FastAPI:
    """The ASGI application over this database, without `/v2`; see `make_service`."""
    engine = make_engine(database_url)
    offered = make_serving(engine, here or settings())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        offered.start()
        yield
        await offered.close()
        engine.dispose()

    web = FastAPI(
        title="Headrace",
        version=version("headrace"),
        summary="Plant data to models and answers back.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        lifespan=lifespan,
        max_body_size=api.MAX_BODY,
    )
    web.state.engine, web.state.serving = engine, offered
    api.install(web)
    for name in features():
        web.include_router(importlib.import_module(f"app.{name}.api").router)
    web.mount("/static", StaticFiles(directory=STATIC), name="static")

    @web.get("/", include_in_schema=False)
    def start_page() -> FileResponse:
        """The page an operator sees first."""
        return FileResponse(STATIC / "index.html")

    return web


def make_service(database_url: str, here: Settings | None = None) -> OpenInference:
    """All that is listened for: the application, and `/v2` beside it. `here`: other settings than this process's."""
    web = make_app(database_url, here)
    return OpenInference(web, web.state.serving)


def main() -> None:
    """Serve until SIGTERM."""
    here = settings()
    log.configure(here.log_level, here.log_format)
    engines.use(here)
    uvicorn.run(
        make_service(here.database()),
        host=here.api_host,
        port=here.api_port,
        log_config=None,
        server_header=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
