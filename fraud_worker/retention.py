"""The retention of the fraud check's tables."""

from eventbus.consumer.retention import INBOX, OUTBOX, Retention, RetentionRule
from eventbus.database.db import engine, sessions
from fraud_worker.models import Judgement
from fraud_worker.settings import RelaySettings

JUDGEMENTS = RetentionRule(
    table=Judgement.metadata.tables[Judgement.__tablename__],
    since=Judgement.judged_at.expression,
)

RULES = (OUTBOX, INBOX, JUDGEMENTS)


def retention(settings: RelaySettings) -> Retention:
    """Return the deletion of the fraud check's old rows, which connects at its first pass."""
    days = {
        OUTBOX: settings.outbox_retention_days,
        INBOX: settings.inbox_retention_days,
        JUDGEMENTS: settings.fraud_retention_days,
    }
    return Retention(sessions(engine(settings)), days)
