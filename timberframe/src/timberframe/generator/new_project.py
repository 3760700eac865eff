"""Starts a project: the application of this repository under a name of its own."""

import hashlib
import re
import tempfile
import tomllib
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import distributions, entry_points
from pathlib import Path
from string import Template
from zipfile import ZipFile

from timberframe.generator.registries import LANDED, record_migration
from timberframe.generator.spec import CannotGenerate
from timberframe.generator.wheel import make_wheel

MAX_NAME = 40
LOCKS = ("requirements.lock", "requirements-dev.lock")

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
# Folders of the project, and commands of its virtual environment.
_TAKEN = {"app", "tests", "alembic", "wheels", "timberframe", "python", "pip", "uv", "activate"}
_START = "timberframe/start/"
_TEMPLATES = Path(__file__).with_name("start")
# What is about this repository, or comes from a template.
_LEFT_OUT = (
    *("README.md", "pyproject.toml", "deploy/check_proxies.py", "deploy/Dockerfile"),
    *("tests/test_architecture.py", "tests/test_deploy.py", "tests/test_ways_out.py"),
)
_OF_EXAMPLE = ("iso4217",)
_EXAMPLE = re.compile(
    r"product|categor|catalogue|stock|app/seed\.py|tests/test_seed\.py|alembic/versions/"
)


def new_project(folder: Path, *, with_example: bool) -> None:
    """Make the folder, whose name is the project's; nothing if it raises `CannotGenerate`."""
    name = folder.name
    _check_name(name)
    if folder.exists():
        raise CannotGenerate(f"{folder} already exists; nothing is overwritten")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as made:
            wheel = make_wheel(Path(made))
            root = Path(made) / name
            _write(root, _files_of(name, wheel, with_example=with_example))
            (root / "wheels").mkdir()
            wheel.rename(root / "wheels" / wheel.name)
            root.rename(folder)
    except OSError as failed:
        raise CannotGenerate(f"{folder}: {failed.strerror}") from None


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise CannotGenerate(
            f"{name!r} cannot be the name of a project: it must be up to {MAX_NAME} lower-case"
            " letters and digits, with - or _ between them, such as shop"
        )
    scripts = {script.name for script in entry_points(group="console_scripts")}
    packages = {_normalized(dist.name) for dist in distributions()}
    if _normalized(name) in _TAKEN | scripts | packages:
        raise CannotGenerate(f"{name}: a package or command has that name; try: {name}-api")


def _normalized(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (root / ".ci/run").chmod(0o755)


def _files_of(name: str, wheel: Path, *, with_example: bool) -> dict[str, str]:
    """The files of the project by path."""
    start = _read_start(wheel)
    title = re.sub(r"[-_]", " ", name).capitalize()
    renames = {"myapi": name, "My API": title}
    if not with_example:
        renames["Users and products."] = "Users."
    files = {
        _replace(path, renames): _replace(text, renames)
        for path, text in start.items()
        if path not in _LEFT_OUT and (with_example or not _EXAMPLE.search(path))
    }
    kinds = ["project"] if with_example else ["project", "without_example"]
    pyproject = tomllib.loads(start["pyproject.toml"])
    version = wheel.name.split("-")[1]
    values = {
        "name": name,
        "title": title,
        "settings": _replace(_section(start["README.md"], "Settings"), renames),
        "dependencies": _lines(
            f"timberframe~={version}" if each == "timberframe" else each
            for each in pyproject["project"]["dependencies"]
            if with_example or each.partition("~")[0] not in _OF_EXAMPLE
        ),
        "build": _lines(pyproject["dependency-groups"]["build"]),
        "dev": _lines(pyproject["dependency-groups"]["dev"]),
    }
    for kind in kinds:
        for file in (_TEMPLATES / kind).rglob("*.tmpl"):
            path = file.relative_to(_TEMPLATES / kind).with_suffix("").as_posix()
            files[path] = Template(file.read_text()).substitute(values)
    dropped = () if with_example else _OF_EXAMPLE
    for lock in LOCKS:
        files[lock] = _lock(files[lock], wheel, version, dropped)
    if not with_example:
        migrations = [path for path in files if path.startswith("alembic/versions/")]
        files[LANDED] = "".join(record_migration(path, files[path], "") for path in migrations)
    return dict(sorted(files.items()))


def _read_start(wheel: Path) -> dict[str, str]:
    with ZipFile(wheel) as archive:
        return {
            name.removeprefix(_START): archive.read(name).decode()
            for name in archive.namelist()
            if name.startswith(_START)
        }


def _replace(text: str, renames: Mapping[str, str]) -> str:
    for old, new in renames.items():
        text = text.replace(old, new)
    return text


def _section(page: str, heading: str) -> str:
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].strip()


def _lines(dependencies: Iterable[str]) -> str:
    return "\n".join(f'    "{each}",' for each in dependencies)


def _lock(text: str, wheel: Path, version: str, dropped: Collection[str]) -> str:
    """The lock with the wheel, which it finds in `wheels/`, and without packages not needed."""
    _, *entries = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    entries = [entry for entry in entries if entry.partition("=")[0] not in dropped]
    entries.append(f"timberframe=={version} \\\n    --hash=sha256:{digest}\n")
    return "# Compiled by `make lock`.\n--find-links ./wheels\n\n" + "".join(sorted(entries))
