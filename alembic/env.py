"""Alembic runs this; the frame does the work."""

from timberframe import migrations

import app.crud  # noqa: F401 - so that the metadata has all tables, and what is declared of them
from app.core.config import settings

migrations.run(settings)
