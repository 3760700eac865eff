"""The schema and the application agree: schemathesis sends all that it can think of.

To generate it takes far longer than to answer it, so each request goes to both engines. Only these
tests import schemathesis, which takes half a second.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

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
    with ExitStack() as stack:
        apps = []
        for engine in ENGINES:
            template = request.getfixturevalue(f"{engine}_template")
            url = stack.enter_context(new_database(engine, request, template))
            app = subject.create_app()
            own = {"DATABASE_URL": url_setting(url)}
            app.state.settings = subject.settings().model_copy(update=own)
            apps.append(app)
        yield Mirror(*apps)
        fuzzing.shutdown_lifespans()


@pytest.mark.seconds(15)
def test_superuser_gets_what_the_schema_says(mirror: Mirror) -> None:
    from timberframe.testing import fuzzing

    schema = fuzzing.load(mirror, fuzzing.as_admin())
    tried, failures = fuzzing.run(schema)
    failures += mirror.differences
    assert not failures, "\n\n".join(failures)
    assert tried == fuzzing.labels(schema, protected=True)


@pytest.mark.seconds(5)
def test_anybody_gets_what_the_schema_says(mirror: Mirror) -> None:
    """Where signing in is not needed; elsewhere the answer is 401 whatever is sent."""
    from timberframe.testing import fuzzing

    schema = fuzzing.load(mirror, fuzzing.as_nobody())
    open_to_all = fuzzing.labels(schema, protected=False)
    tried, failures = fuzzing.run(
        schema.include(lambda found: found.operation.label in open_to_all)
    )
    failures += mirror.differences
    assert not failures, "\n\n".join(failures)
    assert tried == open_to_all
