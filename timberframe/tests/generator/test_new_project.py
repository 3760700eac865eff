"""`timberframe new`: a project of one's own, which is complete and passes its checks."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import structlog

from timberframe.__main__ import main
from timberframe.generator.new_project import new_project
from timberframe.generator.spec import CannotGenerate
from timberframe.testing import environment

ROOT = Path(__file__).parents[3]
NAME = "my-shop"
CALL_ITS_COMMAND = "from app.cli import main; main()"
OF_THE_EXAMPLE = re.compile(r"product(?!ion)|categor|stock|iso4217|myapi|my api", re.IGNORECASE)


def timberframe(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return run_in(folder, "timberframe", *arguments, **settings)


def run_in(root: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c" if command[0] == CALL_ITS_COMMAND else "-m", *command],
        cwd=root,
        env=environment(**{"PYTHONPATH": str(root), **settings}),
        capture_output=True,
        text=True,
        check=False,
    )


def passes(root: Path, *command: str, **settings: str) -> bool:
    done = run_in(root, *command, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return True


def texts(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".whl" and "cache" not in str(path)
    }


def test_project_without_the_example_does_not_mention_it(new_shop: Path) -> None:
    for path, text in texts(new_shop).items():
        if path.startswith("docs/"):  # of the frame, whose examples are of the example
            continue
        assert not OF_THE_EXAMPLE.search(f"{path}: {text}"), path


@pytest.mark.new_project
def test_new_project_has_the_example_unless_it_is_left_out(
    tmp_path: Path, postgresql_url: str
) -> None:
    """Its tests are those of this repository."""
    made = timberframe(tmp_path, "new", NAME)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout == f"Made {NAME}/\n\nNext: cd {NAME}\n      make run\n"
    root = tmp_path / NAME
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert passes(root, "ruff", "format", "--check", ".")
    assert passes(root, "ruff", "check", ".")
    if (ROOT / ".mypy_cache").exists():  # from the check before: without it, it would be slow
        shutil.copytree(ROOT / ".mypy_cache", root / ".mypy_cache")
    assert passes(root, "mypy")
    tests = ["tests/guide", "tests/api/test_products.py", "tests/test_seed.py"]
    there = [path for path in tests if (ROOT / path).exists()]  # the example may be removed here
    assert passes(root, "pytest", "-n0", "-q", *there, TEST_DATABASE_URL=postgresql_url)


def test_installed_wheel_makes_the_same_project(new_shop: Path, tmp_path: Path) -> None:
    """Its wheel can be installed, and what is installed packs itself again."""
    installed, again = tmp_path / "installed", tmp_path / "again"
    again.mkdir()
    (wheel,) = (new_shop / "wheels").glob("*.whl")
    # Most of it would not be imported: to compile it takes longer than to install it.
    pip = ("pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile")
    assert passes(tmp_path, *pip, "--target", str(installed), str(wheel))
    made = timberframe(again, "new", NAME, "--without-example", PYTHONPATH=str(installed))
    assert (made.returncode, made.stderr) == (0, "")
    differing = {
        path for path, text in texts(new_shop).items() if texts(again / NAME)[path] != text
    }
    # The same files, packed by another program: only the hash of the wheel differs.
    assert differing == {"requirements.lock", "requirements-dev.lock"}
    (packed,) = (again / NAME / "wheels").glob("*.whl")
    assert contents(packed) == contents(wheel)


def contents(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    (record,) = (name for name in files if name.endswith("/RECORD"))
    files[record] = b"\n".join(sorted(files[record].split()))
    return files


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_lock_has_all_packages_of_this_one_and_the_wheel_by_its_hash(
    new_shop: Path, lock: str
) -> None:
    (wheel,) = (new_shop / "wheels").glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    text = (new_shop / lock).read_text()
    assert "\n--find-links ./wheels\n" in text
    assert f"\ntimberframe==0.1.0 \\\n    --hash=sha256:{digest}\n" in text
    locked, here = (
        re.findall(r"^\w\S+==\S+", each, re.MULTILINE) for each in (text, (ROOT / lock).read_text())
    )
    assert set(locked) - set(here) == {"timberframe==0.1.0"}
    missing = {each.partition("==")[0] for each in set(here) - set(locked)}
    assert missing <= {"iso4217"}  # the example's, which may be removed here
    assert len(locked) == len(here) + 1 - len(missing)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Shop", "must be up to 40 lower-case letters and digits"),
        ("my shop", "must be up to 40 lower-case letters and digits"),
        ("..", "must be up to 40 lower-case letters and digits"),
        ("2shop", "must be up to 40 lower-case letters and digits"),
        ("shop-", "must be up to 40 lower-case letters and digits"),
        ("läden", "must be up to 40 lower-case letters and digits"),
        ("s" * 41, "must be up to 40 lower-case letters and digits"),
        ("app", "try: app-api"),
        ("timberframe", "try: timberframe-api"),
        ("fastapi", "try: fastapi-api"),
        ("pydantic_core", "try: pydantic_core-api"),
        ("pytest", "try: pytest-api"),
        ("python", "try: python-api"),
    ],
)
def test_name_that_cannot_work_is_refused_in_one_line(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(CannotGenerate, match=re.escape(reason)):
        new_project(tmp_path / name, with_example=True)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["timberframe", "new", "shop"])
    with pytest.raises(SystemExit) as refused:
        main()
    structlog.reset_defaults()  # a command is a process of its own elsewhere
    said = f"{tmp_path}/shop already exists; nothing is overwritten"
    assert refused.value.code == f"timberframe: {said}"
    assert (tmp_path / "shop").read_text() == "mine"


def test_folder_that_takes_no_files_is_one_line() -> None:
    with pytest.raises(CannotGenerate) as refused:
        new_project(Path("/proc/shop"), with_example=True)
    assert str(refused.value) == "/proc/shop: No such file or directory"
