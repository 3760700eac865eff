"""The guide's `client`: a TestClient on a fresh database, here on each engine."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.main import app


@pytest.fixture
def client(database_url: str) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client
