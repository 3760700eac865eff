"""Alembic runs this; the frame does the work."""

import specimen.crud  # noqa: F401 - so that the metadata has all tables, and what is declared of them
from specimen.config import settings
from timberframe import migrations

migrations.run(settings)
