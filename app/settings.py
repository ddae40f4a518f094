"""Every setting of a process, read from the environment once: nothing else in the project reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "HEADRACE_"


class FileSource(PydanticBaseSettingsSource):
    """`HEADRACE_X_FILE=/run/secrets/x` gives `x` the content of that file, without the last newline."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the library's
        """The content for one field, or None. OSError when the file is named and cannot be read."""
        path = os.environ.get(f"{PREFIX}{field_name.upper()}_FILE")
        return (None if path is None else Path(path).read_text().rstrip("\n"), field_name, False)

    def __call__(self) -> dict[str, Any]:
        """Every field that a `_FILE` variable names."""
        found = {name: self.get_field_value(info, name)[0] for name, info in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """`HEADRACE_…` variables; a name ending in `_FILE` reads the value from that file (container secrets)."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    data_dir: Path = Path(".headrace")
    """Journal, models, certificates, SQLite file, embedded servers' data: all that must survive."""
    database_url: SecretStr | None = None
    """SQLAlchemy URL; the default is SQLite in `data_dir`."""
    redis_url: SecretStr | None = None
    """Where Celery's broker is; the embedded launcher sets it."""
    secret_key: SecretStr | None = None
    """Seals secrets in the database; by default a random key is made once in `data_dir/secret.key` (mode 0600)."""
    admin_password: SecretStr | None = None
    """First password of `admin`; a random one is made and shown once where this is absent."""
    gateway_id: str = Field(default="gateway-1", pattern=r"^[a-z0-9-]{1,30}$")
    """Names this gateway's journal, and the gateway where there are several."""
    lease_s: float | None = Field(default=None, ge=3, le=120)
    """Set on each of several gateways over one database: each connection is read by one of them, which proves within
    this time that it lives, or another takes over. Without it there is one gateway, and nothing is asked."""
    queue: str | None = Field(default=None, pattern=r"^[a-z0-9._]{1,40}$")
    """One Celery queue for everything, which a worker serves and a gateway sends to: set it on all of them. Without it
    there is one per class of devices, and the order of devices of a pipeline decides."""
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8420, ge=0, le=65535)
    commit_interval_ms: float = Field(default=5.0, ge=0, le=1000)
    """Group commit of the journal: the longest a reading waits for its fsync."""
    journal_budget_mb: int = Field(default=2048, ge=16)
    """Disk budget of the journal; what happens when it is used up says `journal_when_full`."""
    journal_when_full: Literal["stop", "drop_oldest", "drop_by_priority"] = "stop"
    """What happens then: `stop` acknowledging, or drop of what was not sent yet the oldest (`drop_oldest`), or first of
    connections with a low `priority` in the plant file (`drop_by_priority`)."""
    journal_max_age_h: float | None = Field(default=None, gt=0, le=87600)
    """With a policy that drops: what was received longer ago than this and not sent yet is dropped too."""
    in_flight_batches: int = Field(default=64, ge=1, le=4096)
    """Batches sent to the queue and not yet known to be applied: the back pressure."""
    resend_after_s: float = Field(default=10.0, ge=1, le=600)
    """A batch not applied by then is sent again, with back-off; far below the visibility time-out."""
    reconnect_cap_s: float = Field(default=30.0, ge=1, le=3600)
    """The longest wait between two tries to reach a peer that was lost; the first comes within a second."""
    worker_concurrency: int = Field(default=1, ge=1, le=64)
    keep_predictions_d: float | None = Field(default=None, ge=1, le=36500)
    """Days: predictions whose window ended longer ago are removed; without it they are kept for ever."""
    keep_events_d: float | None = Field(default=None, ge=1, le=36500)
    """Days: the same of events that are over."""
    keep_outbox_d: float = Field(default=1.0, ge=0.01, le=36500)
    """Days that a publication is kept after its peer has taken it: so far back it can be sent again."""
    keep_readings_d: float | None = Field(default=None, ge=1, le=36500)
    """Days: readings whose time is further back are removed, a chunk of a tag at a time."""
    history_max_gb: float | None = Field(default=None, ge=0.1, le=1_000_000)
    """GB of compacted readings; of more the oldest are removed. Without both they are kept for ever."""
    keep_dead_letters_d: float | None = Field(default=90.0, ge=1, le=36500)
    """Days that a dead letter is kept, with its windows."""
    engines: dict[str, str] = Field(default_factory=dict)
    """Vendors whose devices run in an engine process, to the interpreter of their environment; empty: our own. JSON."""
    engine_memory_mb: int = Field(default=4096, ge=128)
    """What an engine may have in memory; beyond that it is ended."""
    engine_open_s: float = Field(default=600.0, ge=1, le=86400)
    """How long an engine may take to make a model ready."""
    engine_run_s: float = Field(default=30.0, ge=0.1, le=3600)
    """How long it may take for one call."""
    artefacts_mb: int = Field(default=2048, ge=0)
    """What compilers of chips made of models, kept in the data folder, may take up; 0 keeps nothing."""
    require_signature: bool = False
    """Whether model packages must be signed, by one of `trusted_signers`."""
    trusted_signers: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = ()
    """SHA-256 of public keys whose signatures of model packages are trusted. JSON."""
    serve: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Models offered under /v2, by name, to the order of devices; the first that takes it runs it. JSON."""
    serve_override: dict[str, Annotated[str, Field(min_length=1, max_length=500)]] = Field(default_factory=dict)
    """Models run under /v2 without a certificate, by name, to the reason, which is audited. JSON."""
    serve_memory_mb: int = Field(default=1024, ge=1)
    """What files of models loaded for /v2 may amount to; beyond, the least recently used is unloaded."""
    serve_budget_ms: float = Field(default=20.0, gt=0, le=10_000)
    """No run for /v2 is made longer than this by joining requests."""
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    log_format: str = Field(default="console", pattern="^(console|json)$")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then files that the environment names; no .env file is ever read."""
        return init_settings, env_settings, FileSource(settings_cls)

    @model_validator(mode="after")
    def _age_needs_a_policy(self) -> Self:
        if self.journal_max_age_h is not None and self.journal_when_full == "stop":
            message = "journal_max_age_h drops readings: set journal_when_full to drop_oldest, or drop_by_priority"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _served_names_a_device(self) -> Self:
        empty = sorted(name for name, devices in self.serve.items() if not devices)
        if empty:
            message = f"serve names no device for {', '.join(empty)}: give at least one, e.g. cpu"
            raise ValueError(message)
        unknown = sorted(self.serve_override.keys() - self.serve.keys())
        if unknown:
            message = f"serve_override names {', '.join(unknown)}, which serve does not offer"
            raise ValueError(message)
        return self

    def database(self) -> str:
        """The SQLAlchemy URL in force. Holds the password: never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'headrace.db'}"


_provided: dict[str, str] = {}


def provide(values: Mapping[str, str]) -> None:
    """Let plant files refer to these by `{env: NAME}`: addresses and secrets of servers that the launcher runs."""
    _provided.update(values)


def variable(name: str) -> str | None:
    """One variable that a plant file refers to by `{env: NAME}`; None when it is not set."""
    return _provided.get(name, os.environ.get(name))


@contextmanager
def alone(**own: str) -> Iterator[None]:
    """Within it no `HEADRACE_…` variable of the environment is there: what another box is told reaches nobody here.

    `own`: variables that this process and its children have instead.
    """
    before = dict(os.environ)
    for name in [name for name in before if name.startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(own)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def inherited() -> dict[str, str]:
    """The environment a child process is given: ours, to which its own variables are added."""
    return dict(os.environ)


class _Chosen:
    """The settings in use, once somebody asked."""

    value: Settings | None = None


def settings() -> Settings:
    """The settings of this process."""
    if _Chosen.value is None:
        _Chosen.value = Settings()
    return _Chosen.value


def use(chosen: Settings) -> None:
    """Let a command line's choice be the settings of this process, before anything asks for them."""
    _Chosen.value = chosen
