"""PocketBase's own database, with the rows of myapi's SQLite file."""

import sqlite3
import subprocess
import sys
from pathlib import Path

MIGRATIONS = Path(__file__).parent / "migrations"

# Its keys have 15 letters and digits, its times a space and milliseconds.
COPY = """
    INSERT INTO products (id, sku, name, description, price, currency, stock, is_active,
                          category, tags, owner_id, created_at, updated_at)
    SELECT format('%015d', id), sku, name, description, price_cents / 100.0, currency, stock,
           is_active, coalesce(category, ''), tags, owner_id,
           substr(created_at, 1, 23) || 'Z', substr(updated_at, 1, 23) || 'Z'
    FROM source.products ORDER BY id
"""


def fill(pocketbase: str, data: Path, source: Path) -> None:
    """Let it make the table, then copy the rows inside SQLite: it is not running yet."""
    migrate = [pocketbase, "migrate", "up", f"--dir={data}", f"--migrationsDir={MIGRATIONS}"]
    done = subprocess.run(migrate, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"pocketbase migrate failed:\n{done.stdout}{done.stderr}")
    database = sqlite3.connect(data / "data.db")
    database.execute("ATTACH ? AS source", (str(source),))
    with database:
        database.execute(COPY)
    database.execute("PRAGMA optimize")
    database.close()
