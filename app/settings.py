"""Every setting of a process, read from the environment once: nothing else in the project reads it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """`HEADRACE_…` variables; a name ending in `_FILE` reads the value from that file (container secrets)."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", extra="ignore", frozen=True)

    data_dir: Path = Path(".headrace")
    """Journal, models, certificates, SQLite file, embedded servers' data: all that must survive."""
    database_url: SecretStr | None = None
    """SQLAlchemy URL; the default is SQLite in `data_dir`."""
    redis_url: SecretStr | None = None
    """Where Celery's broker is; the embedded launcher sets it."""
    secret_key: SecretStr | None = None
    """Seals secrets in the database; by default a random key is made once in `data_dir/secret.key` (mode 0600)."""
    gateway_id: str = Field(default="gateway-1", pattern=r"^[a-z0-9-]{1,30}$")
    """Names this gateway's journal."""
    queue: str = Field(default="infer.cpu", pattern=r"^[a-z0-9.]{1,40}$")
    """The Celery queue a worker of this box serves and a gateway sends to."""
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8420, ge=0, le=65535)
    commit_interval_ms: float = Field(default=5.0, ge=0, le=1000)
    """Group commit of the journal: the longest a reading waits for its fsync."""
    journal_budget_mb: int = Field(default=2048, ge=16)
    """Disk budget of the journal; when it is used up the field side is no longer acknowledged."""
    in_flight_batches: int = Field(default=64, ge=1, le=4096)
    """Batches sent to the queue and not yet known to be applied: the back pressure."""
    resend_after_s: float = Field(default=10.0, ge=1, le=600)
    """A batch not applied by then is sent again, with back-off; far below the visibility time-out."""
    worker_concurrency: int = Field(default=1, ge=1, le=64)
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    log_format: str = Field(default="console", pattern="^(console|json)$")

    def database(self) -> str:
        """The SQLAlchemy URL in force. Holds the password: never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'headrace.db'}"


@cache
def settings() -> Settings:
    """The settings of this process."""
    return Settings()
