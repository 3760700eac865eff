"""The schema and the application agree: schemathesis sends all that it can think of.

To generate it takes far longer than to answer it, so each request goes to both engines. Only these
tests import schemathesis, which takes half a second.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from timberframe.testing import subject
from timberframe.testing.databases import ENGINES, new_database, url_setting
from timberframe.testing.mirror import Mirror


@pytest.fixture
def mirror(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mirror]:
    from timberframe.testing import fuzzing

    monkeypatch.setattr(subject.settings(), "MAIL_FOLDER", tmp_path)
    settings, apps = subject.settings(), (subject.app(), subject.create_app())
    with ExitStack() as stack:
        for engine, app in zip(ENGINES, apps, strict=True):
            template = request.getfixturevalue(f"{engine}_template")
            url = stack.enter_context(new_database(engine, request, template))
            own = settings.model_copy(update={"DATABASE_URL": url_setting(url)})
            monkeypatch.setitem(app.state._state, "settings", own)
        yield Mirror(*apps)
        fuzzing.shutdown_lifespans()


@pytest.mark.seconds(10)
def test_anybody_and_superuser_get_what_the_schema_says(mirror: Mirror) -> None:
    """Anybody only where signing in is not needed: elsewhere the answer is 401 whatever is sent."""
    from timberframe.testing import fuzzing

    fuzz(mirror, fuzzing.as_nobody(), protected=False)
    fuzz(mirror, fuzzing.as_admin(), protected=True)


def fuzz(mirror: Mirror, settings: dict[str, Any], *, protected: bool) -> None:
    from timberframe.testing import fuzzing

    schema = fuzzing.load(mirror, settings)
    labels = fuzzing.labels(schema, protected=protected)
    tried, failures = fuzzing.run(schema.include(lambda found: found.operation.label in labels))
    failures += mirror.differences
    assert not failures, "\n\n".join(failures)
    assert tried == labels
