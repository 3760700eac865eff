"""The checkout that the generator works in: reads what exists, and writes all files or none."""

import os
import re
from collections.abc import Iterator, Mapping
from copy import copy
from functools import cached_property
from pathlib import Path

from timberframe.crud.idempotency import IdempotencyKey
from timberframe.data import revisions
from timberframe.data.events import Event
from timberframe.generator.names import Names
from timberframe.generator.spec import CannotGenerate, Target
from timberframe.jobs.models import JobRecord
from timberframe.project import Project

GENERATE_RESOURCE, GENERATE_FIELD = "generate resource", "generate field"
DESTROY_RESOURCE, DESTROY_FIELD = "destroy resource", "destroy field"
RENAME_RESOURCE = "rename resource"  # no command, but a line in the docstring of a migration
_CALL = re.compile(
    rf"\b((?:generate|destroy) (?:resource|field)|{RENAME_RESOURCE}) (.+)", re.DOTALL
)
_NEEDED = ("pyproject.toml", "alembic/versions", "app/models", "tests/api")
TABLES_OF_FRAME = {each.__tablename__ for each in (Event, IdempotencyKey, JobRecord)}


class Checkout:
    def __init__(self, project: Project) -> None:
        self.project = project
        self.root = root = project.root
        for needed in _NEEDED:
            if not (root / needed).exists():
                raise CannotGenerate(f"{root} is not a checkout of the project: it has no {needed}")
            if not os.access(root / needed, os.W_OK):
                raise CannotGenerate(f"{root / needed} cannot be written")

    def read(self, path: str) -> str:
        try:
            return (self.root / path).read_text()
        except FileNotFoundError:
            raise CannotGenerate(f"{path} is gone") from None

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def names_in(self, folder: str) -> set[str]:
        """The names of the modules in a folder."""
        return {path.stem for path in (self.root / folder).glob("*.py")}

    def targets(self) -> dict[str, Target]:
        """The resources that others can refer to: they have a model, and a crud with a policy."""
        found = {}
        for one, many in self._tables():
            crud = f"app/crud/{one}.py"
            if self.exists(crud) and f"{one}_crud = " in (text := self.read(crud)):
                if one != "user" and not self._is_stated(many):
                    continue
                is_hidden = one == "user" or "read=owner(" in text
                found[one] = Target(one, many, one == "user", is_hidden, "read=superusers" in text)
        return found

    def tables(self) -> set[str]:
        texts = (self.read(f"app/models/{one}.py") for one in self.names_in("app/models"))
        others = {table for text in texts for table in re.findall(r'able\(\s*"(\w+)"', text)}
        return others | TABLES_OF_FRAME | {table for _, table in self._tables()}

    def _tables(self) -> Iterator[tuple[str, str]]:
        for one in sorted(self.names_in("app/models") - {"__init__"}):
            text = self.read(f"app/models/{one}.py")
            if table := re.search(r'__tablename__ = "(\w+)"', text):
                yield one, table[1]

    def referring_to(self, names: Names) -> str | None:
        """The first other resource whose rows refer to those of this one."""
        imported = f"from app.models.{names.one} import"  # for a list of its ids
        for one, many in self._tables():
            text = self.read(f"app/models/{one}.py")
            if many != names.many and (f'"{names.many}.id"' in text or imported in text):
                return one
        return None

    def _is_stated(self, many: str) -> bool:
        """Whether its tests state it as a resource, so that those of others can create a row."""
        path = f"tests/api/test_{many}.py"
        return self.exists(path) and "\nRESOURCE = " in self.read(path)

    @cached_property
    def migrations(self) -> dict[str, "Migration"]:
        """The migrations by revision, as they were before anything was changed."""
        paths = sorted((self.root / "alembic/versions").glob("*.py"))
        return {m.revision: m for m in map(Migration, paths)}

    def history(self) -> list["Migration"]:
        """The migrations, each after those that it depends on.

        Their arguments have the names that the resources have now.
        """
        migrations, sorted_ = self.migrations, dict[str, Migration]()

        def add(revision: str) -> None:
            if revision in migrations and revision not in sorted_:
                for down in migrations[revision].down_revisions:
                    add(down)
                sorted_[revision] = copy(migrations[revision])

        for revision in migrations:
            add(revision)
        history = list(sorted_.values())
        for number, migration in enumerate(history):
            match migration.command, migration.arguments:
                case (str(command), [old, new, *plural]) if command == RENAME_RESOURCE:
                    for earlier in history[:number]:
                        earlier.rename(old, new, *plural)
        return history

    def head(self) -> str | None:
        migrations = self.migrations
        heads = migrations.keys() - {d for m in migrations.values() for d in m.down_revisions}
        if len(heads) > 1:
            raise CannotGenerate(f"there are {len(heads)} heads; first: alembic merge heads")
        return heads.pop() if heads else None

    def change(self, files: Mapping[str, str | None]) -> None:
        """Write each file, or remove it if it is None; on any failure, undo all changes."""
        before = {path: self.read(path) if self.exists(path) else None for path in files}
        done: list[str] = []
        try:
            for path, text in files.items():
                done.append(path)
                self._put(path, text)
        except BaseException as failed:
            for path in done:
                self._put(path, before[path])
            if isinstance(failed, OSError):
                raise CannotGenerate(f"{failed.filename}: {failed.strerror}") from None
            raise

    def _put(self, path: str, text: str | None) -> None:
        if text is None:
            (self.root / path).unlink(missing_ok=True)
        else:
            (self.root / path).write_text(text)


class Migration(revisions.Migration):
    """A migration that the generator may have written.

    Its docstring has the command that generated it, such as `generate resource`, with arguments.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        found = _CALL.search(self.docstring)
        self.command = found[1] if found else None
        self.arguments = found[2].split() if found else []

    def rename(self, old: str, new: str, *plural: str) -> None:
        """Change the arguments as if the resource had been called `new` from the beginning."""
        name, *rest = self.arguments or [""]
        if name == old:
            if self.command == GENERATE_RESOURCE:
                rest = [each for each in rest if not each.startswith("--plural=")] + [*plural]
            name = new
        self.arguments = [
            name,
            *(re.sub(rf":(refs?):{old}\b", rf":\1:{new}", each) for each in rest),
        ]
