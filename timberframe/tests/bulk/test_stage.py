"""The stage of an import: rows on disk, and a disk that is full."""

import pytest

from timberframe.bulk.stage import Stage
from timberframe.errors import Unavailable


def test_full_disk_is_an_error_that_says_so() -> None:
    with pytest.raises(Unavailable, match="Room for files on disk"):
        fill(bytes_of_key=100_000)
    fill(bytes_of_key=10)  # the control


def fill(*, bytes_of_key: int) -> None:
    with Stage() as stage:
        stage._database.execute("PRAGMA max_page_count = 10")
        assert stage.add_key("x" * bytes_of_key, 1)
