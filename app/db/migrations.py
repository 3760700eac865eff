"""Bringing a database to the schema of this code."""

from pathlib import Path

from alembic.config import Config

from alembic import command

ROOT = Path(__file__).parents[2]


def alembic_config() -> Config:
    return Config(toml_file=ROOT / "pyproject.toml")


def upgrade(revision: str = "head") -> None:
    command.upgrade(alembic_config(), revision)


def downgrade(revision: str = "base") -> None:
    command.downgrade(alembic_config(), revision)
