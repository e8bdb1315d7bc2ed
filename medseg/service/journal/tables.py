"""Tables of the journal. A change here needs a step in `migrations/versions`; a test holds the two together."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMES)
"""Moments are seconds since 1970 (UTC); they are for people, and nothing is decided by them, because clocks jump."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False, index=True),
    Column("case", String(255), nullable=False),
    Column("source", JSON, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("model", Text, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("route", String(255), nullable=False),
    Column("hold", JSON, nullable=False),
    Column("out", Text, nullable=False),
    Column("identity", JSON, nullable=False),
    Column("study_uid", String(64), nullable=False, index=True),
    Column("arrival", ForeignKey("arrivals.id"), index=True),
    Column("supersedes", ForeignKey("jobs.id")),
    Column("superseded_by", ForeignKey("jobs.id")),
    Column("attempts", Integer, nullable=False),
    Column("owner", String(255), index=True),
    Column("beat", BigInteger, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("stop_asked", String(16), nullable=False),
    Column("stage", String(32), nullable=False),
    Column("share", Float, nullable=False),
    Column("reason_code", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("facts", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("kept", String(8), nullable=False, server_default="yes", index=True),
)
"""Columns are described at `journal.job.Job`."""

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("who", String(255), nullable=False),
    Column("what", Text, nullable=False),
)
"""Every change of a job: the state that it has since, by whom, and in words."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job", ForeignKey("jobs.id"), nullable=False),
    Column("receiver", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("problem", Text, nullable=False),
    Column("changed_at", Float, nullable=False),
    UniqueConstraint("job", "receiver"),
)
"""What goes to whom: waiting, sent, confirmed, or refused for good."""

arrivals = Table(
    "arrivals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_uid", String(64), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("sender", String(255), nullable=False),
    Column("expected", Integer, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("kept", String(8), nullable=False, server_default="yes", index=True),
    UniqueConstraint("study_uid", "revision"),
)
"""A study as it comes in: open while its objects arrive, closed when it is complete and has become a job. Revision 1,
2, ...; what comes after it was closed makes the next. `expected` objects complete it at once; 0: nobody said.
`kept`: whether its objects are still on the disk: yes, going (they are being removed) or no."""

objects = Table(
    "objects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("sop_uid", String(64), nullable=False),
    Column("sop_class", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("path", Text, nullable=False),
    Column("arrival", ForeignKey("arrivals.id"), nullable=False, index=True),
    Column("sender", String(255), nullable=False),
    Column("times", Integer, nullable=False),
    Column("current", Boolean, nullable=False),
    Column("input", Boolean, nullable=False),
    Column("received_at", Float, nullable=False),
    UniqueConstraint("sop_uid", "sha256"),
    Index("ix_objects_study_uid_current", "study_uid", "current"),
)
"""A DICOM object that was received, `times` times with the same bytes. Of several versions of one (equal `sop_uid`,
another `sha256`) the last is current. An `input` is what a model may be given; reports, segmentations and medseg's own
results are none, and make no revision of their study: else a result that an archive sends back would be computed on."""

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("who", String(255), nullable=False),
    Column("what", String(64), nullable=False),
    Column("about", Text, nullable=False),
    Column("outcome", Text, nullable=False),
)
"""Who did what: a person by the name of a token, a program by its AE title."""

age = Table(
    "age",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("seconds", Float, nullable=False),
    Column("at", Float, nullable=False),
)
"""How long this installation has run, see `journal.keeping`; one row. `at`: the moment when it last grew."""

leaving = Table(
    "leaving",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(64), nullable=False),
    Column("signature", String(64), nullable=False),
    Column("since", Float, nullable=False),
    UniqueConstraint("kind", "name"),
)
"""What nobody needs any more, and at which age of the installation that was seen first. The signature changes with the
jobs that it hangs on."""

troubles = Table(
    "troubles",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(255), nullable=False, unique=True),
    Column("told", Float, nullable=False),
    Column("upto", BigInteger, nullable=False),
)
"""Troubles that somebody was told of, and at which age of the installation. `upto`: where it consists of events, the
last one that was told of."""
