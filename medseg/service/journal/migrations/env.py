"""How Alembic runs the steps: on the connection that it is given, within that connection's transaction."""

from alembic import context

from medseg.service.journal.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
