"""The synchronous engine and its sessions."""

from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from benchmarks.guide.config import settings

# `get_current_user` waits for a connection on the event loop, and the loop is also what gives
# connections back: with fewer than there are clients, all of them would wait for ever.
engine = create_engine(
    settings.DATABASE_URL.replace("postgresql://", "postgresql+psycopg2://", 1), pool_size=20
)
SessionLocal = sessionmaker(autocommit=False, autoflush=False, bind=engine)
