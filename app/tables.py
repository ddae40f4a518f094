"""Every feature's rows, gathered so that migrations see one whole schema."""

from app.access import tables as access
from app.backfill import tables as backfill
from app.certificates import tables as certificates
from app.db import Base
from app.events import tables as events
from app.history import tables as history
from app.leases import tables as leases
from app.ledger import tables as ledger
from app.letters import tables as letters
from app.models import tables as models
from app.northbound import tables as northbound
from app.pipelines import tables as pipelines
from app.plant import tables as plant
from app.readings import tables as readings
from app.retention import tables as retention
from app.scoring import tables as scoring
from app.sources import tables as sources
from app.states import tables as states
from app.takeover import tables as takeover

metadata = Base.metadata

__all__ = [
    "access",
    "backfill",
    "certificates",
    "events",
    "history",
    "leases",
    "ledger",
    "letters",
    "metadata",
    "models",
    "northbound",
    "pipelines",
    "plant",
    "readings",
    "retention",
    "scoring",
    "sources",
    "states",
    "takeover",
]
