"""The test kit: what it takes from a project, and what it refuses."""

import pytest

# Nothing that only costs time: each run is a process of its own.
PLUGINS = [f"-pno:{name}" for name in ("xdist", "schemathesis", "hypothesispytest", "valkey")]
OPTIONS = f"addopts = {PLUGINS}"
PROJECT = f"""
[project]
name = "shop"

[project.scripts]
shop = "shop:main"

[tool.timberframe]
{{more}}
[tool.pytest]
{OPTIONS}
"""
ENTRYPOINT = '\n[tool.fastapi]\nentrypoint = "shop:app"\n'


def run_pytest(pytester: pytest.Pytester, pyproject: str, test: str) -> pytest.RunResult:
    pytester.makepyprojecttoml(pyproject)
    pytester.makepyfile(shop="app = None", test_shop=test)
    return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", timeout=60)


def test_project_without_an_entrypoint_is_told_in_one_line(pytester: pytest.Pytester) -> None:
    result = run_pytest(pytester, PROJECT.format(more=""), "def test() -> None: pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.errlines if line]
    assert len(lines) == 1
    assert lines[0].endswith('pyproject.toml: needs [tool.fastapi] entrypoint = "app.main:app"')


def test_project_of_another_kind_is_left_alone(pytester: pytest.Pytester) -> None:
    test = "import sys\n\ndef test() -> None: assert 'timberframe' not in sys.modules"
    pyproject = f"[tool.pytest]\n{OPTIONS}\n"
    run_pytest(pytester, pyproject, test).assert_outcomes(passed=1)


TESTS = """
import os
import sys
from timberframe.testing.checks.documentation import *

def test_frame_is_there() -> None:
    assert "timberframe.testing.plugin" in sys.modules

def test_settings_of_the_developer_are_not() -> None:
    assert "DATABASE_URL" not in os.environ
"""
SKIPPED = """
[tool.timberframe.skipped_checks]
test_example_settings_are_known = "there is no example"
"""


def test_project_of_ours_is_prepared_and_may_skip_a_check(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check that is not skipped fails, which is the control: there is no application."""
    monkeypatch.setenv("DATABASE_URL", "sqlite:///precious.db")
    result = run_pytest(pytester, PROJECT.format(more=ENTRYPOINT + SKIPPED), TESTS)
    result.assert_outcomes(passed=2, skipped=2, failed=1)


def test_tests_of_two_projects_in_one_call_are_refused_in_one_line(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyprojecttoml(PROJECT.format(more=ENTRYPOINT))
    other = pytester.mkdir("other")
    (other / "pyproject.toml").write_text("[tool.timberframe]\n")
    for folder in (pytester.path, other):
        (folder / "test_shop.py").write_text("def test() -> None: pass\n")
    both = ("test_shop.py", "other/test_shop.py::test")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *both, timeout=60)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.errlines if line]
    assert lines == [f"ERROR: {other} is another project: run its tests on their own"]
