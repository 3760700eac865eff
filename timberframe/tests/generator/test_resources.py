"""The generator: what it writes passes every check, and it goes away without a trace."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from specimen.config import Settings, settings
from timberframe.data.base import Base
from timberframe.data.session import open_database
from timberframe.generator.checkout import TABLES_OF_FRAME
from timberframe.generator.names import plural_of, singular_of
from timberframe.testing import database_options, environment, run_command
from timberframe.testing.databases import url_setting

ROOT = Path(__file__).parents[3]
CACHES = ("__pycache__", ".import_linter_cache", ".mypy_cache", ".ruff_cache", ".hypothesis")
ORDER = """order number:str:unique amount:money note:text? issued_on:date customer:ref:user
    --policy owner --bulk --events"""
DAY_OFF = """day_off on_day:date:unique reason:text=none fee:money?:index people:refs:user
    --plural days_off --policy superuser --events"""
ARTICLE = """article title:str:search subtitle:str? number:int:unique day_off:ref:day_off?
    --policy published --bulk --events"""
PLACE = """place name:str:search token:uuid:unique weight:decimal rank:int? is_open:bool=true
    kind:enum:shop,depot area:enum?:north,south seen_at:datetime opened_on:date? data:json
    story:text?:search article:ref:article? order:ref:order:unique old_orders:refs:order
    --policy public-read --events"""
VOUCHER = """voucher code:str:unique on_day:date:unique tag:uuid:unique is_open:bool=true
    kind:enum:gift,refund article:ref:article? --policy superuser --bulk --seed"""
MEMBERSHIP = "membership boss:ref:user place:ref:place guests:refs:user --events"
FIELDS = (
    "place pages:int=0",
    "place isbn:str?:unique",
    "place last_order:ref:order?",
    "day_off status:enum:draft,half-paid,paid=draft",
    "day_off cost:money=1.50",
    "day_off remark:text?:search",
    "voucher stamp:uuid?:unique",
    "membership level:decimal?:index",
    "article weight:decimal=-0.5:index",
    "article blurb:str=none:search",
)
ROUTES = (
    "order GET /latest read_latest_orders",
    "order POST /{id}/close close_order",
    "place GET /{id}/near-by read_place_near_by",
    "place POST /{id}/close close_place",
    "day_off GET /{id}/reason read_reason_of_day_off",
    "article GET /latest read_latest_articles",
)
CALLS = (ORDER, DAY_OFF, ARTICLE, PLACE, VOUCHER, MEMBERSHIP)

Shop = Callable[[str], tuple[str, str]]


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not set(CACHES) & set(path.parts)
    }


def run_in(root: Path, *command: str, **settings: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=root,
        env=environment(PYTHONPATH=str(root), **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def migrate(root: Path, urls: list[str], *steps: str) -> list[list[object]]:
    """Run commands of Alembic, and SQL in between; return the rows of all SQL.

    They are run on each of the databases, and the rows are the same in each.
    """
    settings = [url_setting(url).get_secret_value() for url in urls]
    code = f"""
import os
from specimen.migrating import migrate

os.chdir({str(root)!r})
migrate({settings}, {steps})
"""
    ended = run_command(before=code, PYTHONPATH=str(root))
    assert ended.returncode == 0, f"{ended.stdout}{ended.stderr}"
    rows: list[list[list[object]]] = json.loads(ended.stdout.splitlines()[-1])
    assert rows == [rows[0]] * len(urls)
    return rows[0]


def run_tests_in(root: Path, postgresql_url: str, *arguments: str) -> None:
    options = ("-q", "-n0", "-p", "no:cacheprovider", "--show-capture=no", "--no-header")
    run_in(root, "pytest", *options, *arguments, TEST_DATABASE_URL=postgresql_url)


def generate(shop: Shop, *calls: str) -> None:
    for call in calls:
        output, failure = shop(f"generate resource {call}")
        assert not failure
        files = 7 if "--bulk" in call else 6
        assert len(re.findall("^create  ", output, re.MULTILINE)) == files


def generate_routes(shop: Shop, *calls: str) -> None:
    for call in calls:
        assert re.fullmatch(
            r"change  app/\S+\nchange  tests/\S+\n", shop(f"generate route {call}")[0]
        )


def generate_fields(shop: Shop, *calls: str) -> None:
    for call in calls:
        output, failure = shop(f"generate field {call}")
        assert not failure
        assert len(re.findall("^create  ", output, re.MULTILINE)) == 1


@pytest.mark.seconds(5)
def test_generated_code_is_in_the_house_style_and_goes_away(checkout: Path, shop: Shop) -> None:
    before = tree(checkout)
    generate(shop, *CALLS)
    generate_fields(shop, *FIELDS)
    without_routes = tree(checkout)
    generate_routes(shop, *ROUTES)
    run_in(checkout, "ruff", "format", "--check", ".")
    run_in(checkout, "ruff", "check", ".")
    for path in tree(checkout):
        (checkout / path).write_bytes(without_routes[path])
    for call in reversed(FIELDS):
        assert shop(f"destroy field {call.partition(':')[0]}")[1] == ""
    for call in reversed(CALLS):
        assert shop(f"destroy resource {call.split()[0]}")[1] == ""
    assert tree(checkout) == before


@pytest.mark.new_project
def test_new_project_with_resources_of_its_own_passes_its_tests(
    checkout: Path, shop: Shop, postgresql_url: str
) -> None:
    before = tree(checkout)
    generate(shop, *CALLS)
    generate_routes(shop, *ROUTES)
    generate_fields(shop, *FIELDS)
    own = sorted(path for path in tree(checkout).keys() - before.keys() if "/test_" in path)
    assert len(own) == len(CALLS)
    if (ROOT / ".mypy_cache").exists():  # from the check before: without it, it would be slow
        shutil.copytree(ROOT / ".mypy_cache", checkout / ".mypy_cache")
    run_in(checkout, "mypy")
    # On PostgreSQL the pages of the guide, the resource with all types of fields, and migrations.
    # What depends on the frame alone is tried with the specimen.
    of_frame = "schema_says or state or noticed or kept_answer or before_input"
    chosen = f"guide or places or migrations or not (postgresql or {of_frame})"
    tests = ("tests/guide", *own, "tests/test_checks.py")
    run_tests_in(checkout, postgresql_url, *tests, "-k", chosen)
    obeys_the_rules_of_this_repository(checkout, postgresql_url)


def obeys_the_rules_of_this_repository(root: Path, postgresql_url: str) -> None:
    """Which way imports go, and what the app may use of the frame."""
    shutil.copytree(ROOT / "timberframe/src", root / "timberframe/src")
    for path in ("pyproject.toml", "tests/test_architecture.py", "timberframe/README.md"):
        shutil.copy(ROOT / path, root / path)
    rules = "downwards or public_names or only_the or module_says"
    run_tests_in(root, postgresql_url, "tests/test_architecture.py", "-k", rules)


def test_readme_shows_what_is_printed(shop: Shop) -> None:
    text = (ROOT / "README.md").read_text()
    shown = text.partition("## Add a resource")[2].partition("```console\n")[2].partition("```")[0]
    call, *printed = shown.replace("\\\n", "").splitlines()
    output, _ = shop(call.partition("/myapi ")[2])

    def undated(lines: list[str]) -> list[str]:
        return [re.sub(r"\d{4}-\d\d-\d\d_\d{4}|myapi|my-shop", "", line) for line in lines]

    assert undated(printed) == undated(output.splitlines())
    text_of_fields = text.partition("## Add a field")[2].partition("```console\n")[2]
    call, *printed = text_of_fields.partition("```")[0].splitlines()
    output, _ = shop(call.partition("/myapi ")[2])
    assert undated(printed) == undated(output.splitlines())[: len(printed)]


ON_ONE_LINE = {
    "app/models/__init__.py": ('from app.models.user import User\n\n__all__ = ["User"]\n'),
    "app/api/v1/api.py": (
        "from fastapi import APIRouter\n"
        "\n"
        "from app.api.v1.endpoints import auth, users\n"
        "\n"
        "api_router = APIRouter()\n"
        'api_router.include_router(auth.router, prefix="/auth", tags=["auth"])\n'
    ),
}


def test_names_on_one_line_are_given_lines_of_their_own(checkout: Path, shop: Shop) -> None:
    for path, text in ON_ONE_LINE.items():
        (checkout / path).write_text(text)
    generate(shop, ORDER.replace("--bulk", ""))
    models, routers = [(checkout / path).read_text() for path in ON_ONE_LINE]
    assert models.endswith('__all__ = [\n    "Order",\n    "User",\n]\n')
    assert "import (\n    auth,\n    orders,\n    users,\n)\n" in routers
    run_in(checkout, "ruff", "format", "--check", *ON_ONE_LINE)


def test_registry_that_is_written_otherwise_is_refused(checkout: Path, shop: Shop) -> None:
    routers = checkout / "app/api/v1/api.py"
    routers.write_text(f"import app.api.v1.endpoints.users as users\n{routers.read_text()[200:]}")
    before = tree(checkout)
    assert shop(f"generate resource {ORDER}")[1] == (
        "my-shop: app/api/v1/api.py: after 'from app.api.v1.endpoints import (' each name needs a"
        " line of its own"
    )
    assert tree(checkout) == before


def test_examples_of_the_help_work_when_they_are_pasted(checkout: Path, shop: Shop) -> None:
    shown, _ = shop("generate resource --help")
    examples = re.findall(r"^ +\.venv/bin/specimen (generate resource .+?) *$", shown, re.MULTILINE)
    assert len(examples) == 2
    for example in examples:
        assert shop(example)[1] == ""


OTHERS = ("product title:str tags:refs:user", "stock_movement count:int")
BAD_CALLS = {
    "order": "order: a resource needs a field, such as title:str",
    "order title": "title: a field is name:type, such as title:str",
    "order title:": "title:: a field is name:type, such as title:str",
    "order title:string": "title: type 'string' is not known; try: str",
    "order title:strr?": "title: type 'strr' is not known; try: str",
    "order amount:float": "amount: type 'float' is not known; try: ",
    "order title:str:uniqe": "title: option 'uniqe' is not known; try: unique",
    "order title:str:unique:unique": "title: an option is given twice",
    "order title:str:unique:index": "title: a unique field has an index anyway",
    "order note:text:unique": "note: text cannot be unique; str can",
    "order data:json:index": "data: json cannot be indexed; str can",
    "order amount:money:search": "amount: money cannot be searched; str and text can",
    "order is_paid:bool:unique": "is_paid: bool cannot be unique; str can",
    "order title:str title:int": "title: title is given twice; leave one out",
    "order amount:money amount_cents:int": "amount_cents: amount_cents is already the",
    "order buyer:ref:user buyer_id:int": "buyer_id: buyer_id is given twice",
    "order buyer:ref": "buyer: a ref needs a resource; try: buyer:ref:",
    "order buyer:ref:usr": "buyer: resource 'usr' is not known; try: user",
    "order buyer:ref:idempotency_key": "buyer: resource 'idempotency_key' is not known; try: ",
    "order buyer_id:ref:user": "buyer_id: a ref gets its _id automatically; try: buyer:ref",
    "order buyer:ref:user:unique": "buyer_id: a ref to user cannot be unique",
    "order owner:ref:user": "owner_id: the name of a field is reserved",
    "order id:int": "id: the name of a field is reserved: the project has a column",
    "order version:int": "version: the name of a field is reserved",
    "order created_at:datetime": "created_at: the name of a field is reserved",
    "order deleted_at:datetime": "deleted_at: the name of a field is reserved",
    "order owner_id:int": "owner_id: the name of a field is reserved",
    "order metadata:json": "metadata: the name of a field is reserved: SQLAlchemy",
    "order registry:str": "registry: the name of a field is reserved: SQLAlchemy",
    "order model_config:str": "model_config: the name of a field is reserved: Pydantic",
    "order model_name:str": "model_name: the name of a field is reserved: Pydantic",
    "order copy:str": "copy: the name of a field is reserved: Pydantic uses it",
    "order sort:str": "sort: the name of a field is reserved: lists have a parameter",
    "order limit:int": "limit: the name of a field is reserved: lists have a parameter",
    "order q:str": "q: the name of a field is reserved: lists have a parameter",
    "order date:date": "date: the name of a field is reserved: it is a type",
    "order class:str": "class: the name of a field is a keyword of Python; try: own_class",
    "order price__lt:money": "price__lt: the name of a field must not have __",
    "order _hidden:str": "_hidden: the name of a field must be lower-case words",
    "order IssuedOn:date": "IssuedOn: the name of a field must be lower-case words joined by _,"
    " such as issued_on; try: issued_on",
    f"order {'a' * 31}:str": f"{'a' * 31}: the name of a field is longer than 30 letters",
    "OrderLine title:str": "OrderLine: the name of a resource must be lower-case words joined"
    " by _, such as order or order_line; try: order_line",
    "order-line title:str": "order-line: the name of a resource must be lower-case words",
    "../order title:str": "../order: the name of a resource must be lower-case words",
    "order2 title:str": "order2: the name of a resource must be lower-case words",
    "class title:str": "class: the name of a resource is a keyword of Python; try: class_item",
    "none title:str": "none: the name of a resource is a keyword of Python",
    "list title:str": "list: the name of a resource is a builtin of Python; try: list_item",
    "warning title:str": "warning: the name of a resource is a builtin of Python",
    "search title:str": "search: the name of a resource must not contain search",
    "product title:str": "product: app/models/product.py already exists; try: product_item",
    "event title:str": "events: already exists; try: --plural event_list",
    "page title:str": "page: there is already a schema Page; try: page_item",
    "policy title:str": "policy: the generated code uses that name itself; try: policy_item",
    "problem title:str": "problem: there is already a schema Problem; try: problem_item",
    "line title:str": "line: the generated code uses that name itself; try: line_item",
    "a title:str": "a: the name of a resource must have a word of two letters or more",
    "index title:str amount:int": "index: the generated code uses that name",
    "money amount:money": "money: the generated code uses that name itself; try: money_item",
    "db title:str": "db: the generated code uses that name itself; try: db_item",
    "order labels:refs": "labels: refs need a resource; try: labels:refs:",
    "order labels:refs:produkt": "labels: resource 'produkt' is not known; try: product",
    "order label_ids:refs:product": "label_ids: refs get their _ids automatically; try: ",
    "order labels:refs?:product": "labels: refs are empty, never null; try: labels:refs:product",
    "order labels:refs:product=1": "labels: refs are empty, never null; try: labels:refs:product",
    "order labels:refs:product:unique": "label_ids: refs cannot be unique",
    "order labels:refs:product:index": "label_ids: refs cannot be indexed",
    "order labels:refs:product label:ref:product": "label_id: label_id is already",
    "stock movements:refs:product": "movement_ids: there is already a table stock_movements",
    "product_tag title:str": "product_tags: already exists; try: --plural product_tag_list",
    "order number:int:unique labels:refs:product --bulk": "label_ids: refs cannot be imported",
    "order status:enum": "status: an enum needs its values; try: status:enum:draft,paid",
    "order status:enum:draft": "status: an enum needs its values",
    "order status:enum:a,a": "status: an enum needs its values",
    "order status:enum:draft,PAID": "status: 'PAID' is no value",
    "order status:enum:draft,paid=sent": "status: default 'sent' is not known; try: draft, paid",
    "order status:enum:draft,paid:search": "status: enum cannot be searched",
    "order status:enum:draft,paid:unique": "status: enum cannot be unique",
    "order amount:money=1.999": "amount: cannot be '1.999'; try: =0.00",
    "order pages:int=many": "pages: cannot be 'many'; try: =0",
    "order is_paid:bool=1": "is_paid: cannot be '1'; try: =false",
    "order title:str=": "title: cannot be ''; try: =new",
    "order title:str=a:unique": "title: a unique field has no default; leave out =a",
    "order title:str?=a": "title: a nullable field has no default; leave out =a",
    "order on_day:date=2026-01-01": "on_day: only str, text, int, bool, money, decimal and enum",
    "order 'title:str=two words'": "title:str=two words: a field is name:type",
    "invoices title:str": "invoices: is a plural; try: invoice, or --plural if it is none",
    "order_people title:str": "order_people: is a plural; try: order_person",
    "equipment title:str": "equipment: --plural must differ from the name, such as equipment_list",
    "order title:str --bulk": "order: --bulk needs a unique field, by which an import finds rows",
    "order title:str?:unique --bulk": "order: --bulk needs a unique field",
    "order code:uuid:unique --bulk": "order: --bulk needs a unique field",
    "order title:str:unique data:json --bulk": "data: json cannot be imported; leave out --bulk",
    "order code:str:unique --seed": "order: --seed imports demo rows; add --bulk",
    "order code:str:unique to:ref:user --bulk --seed": "to_id: demo rows cannot refer to others",
    "order title:str --plural products": "products: already exists; try: --plural order_list",
    "order title:str --plural send_notification": "send_notification: already exists",
    "order title:str --plural order": "order: --plural must differ from the name",
    "order title:str --plural Orders": "Orders: the plural must be lower-case words",
    "order title:str --policy ownr": "policy 'ownr' is not known; try: owner",
    "order title:str --polcy owner": "No such option: --polcy",
    f"order {'a' * 30}:int --plural {'o' * 30}": f"ix_{'o' * 30}_{'a' * 30}_id:",
}


def test_call_that_cannot_work_says_why_in_one_line_and_writes_nothing(
    checkout: Path, shop: Shop
) -> None:
    generate(shop, *OTHERS)
    before = tree(checkout)
    for arguments, expected in BAD_CALLS.items():
        output, failure = shop(f"generate resource {arguments}")
        assert failure.startswith(f"my-shop: {expected}"), (arguments, failure)
        assert "\n" not in failure
        assert output == ""
    assert tree(checkout) == before


def test_tables_of_the_frame_are_taken() -> None:
    models = [mapper.class_ for mapper in Base.registry.mappers]
    of_frame = {m.__tablename__ for m in models if m.__module__.startswith("timberframe.")}
    assert of_frame == TABLES_OF_FRAME


PLURALS = {
    "order": "orders",
    "order_line": "order_lines",
    "person": "people",
    "sales_person": "sales_people",
    "woman": "women",
    "child": "children",
    "category": "categories",
    "query": "queries",
    "colloquy": "colloquies",
    "day": "days",
    "box": "boxes",
    "branch": "branches",
    "bus": "buses",
    "status": "statuses",
    "address": "addresses",
    "analysis": "analyses",
    "shelf": "shelves",
    "leaf": "leaves",
    "thief": "thieves",
    "knife": "knives",
    "life": "lives",
    "chief": "chiefs",
    "proof": "proofs",
    "safe": "safes",
    "cafe": "cafes",
    "house": "houses",
    "invoice": "invoices",
    "course": "courses",
    "area": "areas",
    "movie": "movies",
    "photo": "photos",
    "hero": "heroes",
    "lens": "lenses",
    "gas": "gases",
    "quiz": "quizzes",
    "criterion": "criteria",
}


@pytest.mark.parametrize("one", PLURALS)
def test_plural_is_that_of_english(one: str) -> None:
    assert plural_of(one) == PLURALS[one]
    assert singular_of(one) is None
    assert plural_of(singular_of(PLURALS[one]) or "") == PLURALS[one]


def test_without_ruff_it_says_what_to_install(
    checkout: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(checkout)
    monkeypatch.setitem(sys.modules, "ruff", None)
    failure = shop(f"generate resource {ORDER}")[1]
    assert failure == "my-shop: generating needs ruff: install timberframe[dev]"
    assert tree(checkout) == before


def test_nothing_is_overwritten(checkout: Path, shop: Shop) -> None:
    (checkout / "tests/api/test_orders.py").write_text("# mine\n")
    before = tree(checkout)
    assert shop(f"generate resource {ORDER}")[1].startswith("my-shop: orders: already exists")
    assert tree(checkout) == before


def test_resource_is_generated_once(checkout: Path, shop: Shop) -> None:
    shop(f"generate resource {ORDER}")
    before = tree(checkout)
    failure = shop(f"generate resource {ORDER}")[1]
    assert failure == "my-shop: order: app/models/order.py already exists; try: order_item"
    assert tree(checkout) == before


def test_resource_for_superusers_is_referred_to_by_such_alone(checkout: Path, shop: Shop) -> None:
    shop("generate resource depot name:str --policy superuser")
    failure = shop("generate resource parcel depot:ref:depot")[1]
    assert failure.startswith("my-shop: depot_id: only superusers may read a depot")
    assert shop("generate resource parcel depot:ref:depot --policy superuser")[1] == ""


@pytest.mark.parametrize("verb", ["generate", "destroy"])
def test_all_is_written_or_nothing(
    checkout: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    if verb == "destroy":
        shop(f"generate resource {ORDER}")
    before = tree(checkout)
    write = Path.write_text

    def fail_at_registries(path: Path, text: str) -> int:
        if path.name == "api.py" and path.read_text() != text:
            monkeypatch.undo()
            raise OSError(28, "No space left on device", str(path))
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", fail_at_registries)
    arguments = ORDER if verb == "generate" else "order"
    assert shop(f"{verb} resource {arguments}")[1].endswith("api.py: No space left on device")
    assert tree(checkout) == before


def test_outside_of_a_checkout_it_says_so(
    checkout: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "project", replace(settings.project, root=checkout / "app"))
    failure = shop(f"generate resource {ORDER}")[1]
    assert failure.endswith("is not a checkout of the project: it has no pyproject.toml")


def test_what_was_changed_by_hand_is_destroyed_only_by_force(checkout: Path, shop: Shop) -> None:
    before = tree(checkout)
    shop(f"generate resource {ORDER}")
    # The last first: the first that was changed is named.
    for path in ("app/api/v1/api.py", "app/schemas/__init__.py", "app/crud/order.py"):
        file = checkout / path
        own = r"^.*(RANGE,|include_router\(orders|import Order,).*\n"
        file.write_text(re.sub(own, "", file.read_text(), flags=re.MULTILINE))
        changed = tree(checkout)
        failure = shop("destroy resource order")[1]
        assert failure.startswith(f"my-shop: {path} ")
        assert "--force" in failure
        assert "\n" not in failure
        assert tree(checkout) == changed
    assert shop("destroy resource order --force")[1] == ""
    assert tree(checkout) == before


def test_resource_that_another_refers_to_is_not_destroyed(checkout: Path, shop: Shop) -> None:
    generate(shop, ORDER, "parcel orders:refs:order")
    failure = shop("destroy resource order")[1]
    assert failure.endswith("parcel refers to it; first: my-shop destroy resource parcel")
    failure = shop("destroy field parcel orders")[1]
    assert failure == "my-shop: order_ids: a list of references goes with its resource alone"
    generate(shop, "order_line order:ref:order count:int")
    before = tree(checkout)
    failure = shop("destroy resource order")[1]
    assert failure.endswith("order_line refers to it; first: my-shop destroy resource order_line")
    assert shop("destroy resource ordr")[1].startswith(
        "my-shop: ordr: was not generated; try: order"
    )
    assert shop("destroy resource user")[1].startswith("my-shop: user: was not generated")
    assert tree(checkout) == before


def test_resource_that_others_came_after_is_dropped_by_a_migration(
    checkout: Path, shop: Shop
) -> None:
    generate(shop, DAY_OFF)
    before = tree(checkout)
    generate(shop, ORDER)
    assert "_drop_days_off.py" in shop("destroy resource day_off")[0]
    assert "was not generated" in shop("destroy resource day_off")[1]
    assert "_drop_orders.py" in shop("destroy resource order")[0]
    left = sorted(re.sub(r".*\d_", "", path) for path in tree(checkout).keys() - before.keys())
    assert left == ["add_orders.py", "drop_days_off.py", "drop_orders.py"]


def head_in(root: Path) -> str:
    return str(ScriptDirectory(str(root / "alembic")).get_current_head())


def stamp(root: Path, revision: str) -> None:
    """Say in the database that it has this migration and those before, without running them."""
    scripts = ScriptDirectory(str(root / "alembic"))

    async def run() -> None:
        async with (
            open_database(database_options()) as database,
            database.engine.begin() as connection,
        ):
            await connection.run_sync(
                lambda sync: MigrationContext.configure(sync).stamp(scripts, revision)
            )

    asyncio.run(run())


def test_migration_of_a_resource_stays_if_it_was_applied(
    checkout: Path, shop: Shop, empty_database_url: str
) -> None:
    before, head = tree(checkout), head_in(checkout)
    generate(shop, ORDER)
    stamp(checkout, head_in(checkout))
    assert "create  alembic/versions/" in shop("destroy resource order")[0]
    left = sorted(tree(checkout).keys() - before.keys())
    assert [re.sub(r".*\d_", "", path) for path in left] == ["add_orders.py", "drop_orders.py"]
    stamp(checkout, head)
    for path in left:
        (checkout / path).unlink()
    (checkout / "alembic/landed.sha256").write_bytes(before["alembic/landed.sha256"])
    generate(shop, ORDER)
    assert shop("destroy resource order")[1] == ""
    assert tree(checkout) == before


BAD_FIELDS = {
    "order pages:int": "pages: rows that exist need a value; try: pages:int=…",
    "order on_day:date": "on_day: rows that exist need a value; try: on_day:date?",
    "order place:ref:user": "place_id: rows that exist need a value; try: place:ref:user?",
    "order note:text?": "note: note is given twice",
    "order parent:ref:order?": "parent_id: a order cannot refer to another one",
    "order labels:refs:user": "label_ids: a list of references comes with its resource alone",
    "order place:ref:membership?": "place_id: membership refers to order already; in a circle",
    "order byhand:int?": "byhand: app/models/order.py has it already",
    "user weight:int?": "user: was not generated; try: order",
    "ordr weight:int?": "ordr: was not generated; try: order",
}


def test_field_that_cannot_be_added_is_refused_in_one_line(checkout: Path, shop: Shop) -> None:
    generate(shop, ORDER, "membership order:ref:order")
    model = checkout / "app/models/order.py"
    model.write_text(model.read_text().replace("    note:", "    byhand: Mapped[int]\n    note:"))
    before = tree(checkout)
    for arguments, expected in BAD_FIELDS.items():
        output, failure = shop(f"generate field {arguments}")
        assert failure.startswith(f"my-shop: {expected}"), (arguments, failure)
        assert ("\n" in failure, output) == (False, "")
    failure = shop("destroy field order weight")[1]
    assert failure.startswith("my-shop: weight: was not generated for order; try: ")
    failure = shop("destroy field membership order")[1]
    assert (
        failure
        == "my-shop: order: is the only field of membership; try: destroy resource membership"
    )
    assert tree(checkout) == before


def test_field_goes_into_files_that_were_edited(checkout: Path, shop: Shop) -> None:
    generate(shop, ORDER)
    edits = {
        "app/models/order.py": ("    note: ", "    mine: Mapped[int | None]\n    note: "),
        "app/schemas/order.py": ("The note of the order", "What the buyer said"),
        "app/crud/order.py": ("(Order.number, Order.amount, ", "("),
        "tests/api/test_orders.py": ("Ordered by phone", "Ordered by letter"),
    }
    for path, (old, new) in edits.items():
        file = checkout / path
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
    before = tree(checkout)
    generate_fields(shop, "order pages:int=0")
    for path, (_, new) in edits.items():
        text = (checkout / path).read_text()
        assert new in text
        assert "pages" in text
    crud = checkout / "app/crud/order.py"
    assert crud.read_text().count("Order.amount") == 1
    assert shop("destroy field order pages")[1] == ""
    assert tree(checkout) == before
    crud.write_text(crud.read_text().replace("    filters = {", "    filters = MINE | {"))
    crud.write_text(re.sub("sorted_by = .*", "sorted_by = mine()", crud.read_text()))
    edited = tree(checkout)
    failure = shop("generate field order pages:int=0")[1]
    assert failure.startswith("my-shop: app/crud/order.py: 'sorted_by = (Order.number, ")
    assert failure.endswith("' is not there as it was generated; change the resource by hand")
    assert tree(checkout) == edited


def test_fields_come_and_go_with_the_rows_that_exist_and_autogenerate_finds_no_more(
    checkout: Path, shop: Shop, empty_database_urls: list[str]
) -> None:
    """Indexes for orders are declared by the crud: they must be known without the routes."""
    generate(shop, ORDER, "depot name:str:search fee:money? --policy superuser --events")
    created = head_in(checkout)
    fields = {
        "pages:int=7": 7,
        "status:enum:draft,half-paid=draft": "draft",
        "code:str?:unique": None,
        "near:ref:user?": None,
        "cost:money=1.50": 150,
        "story:text=none:search": "none",
    }
    generate_fields(shop, *(f"depot {field}" for field in fields))
    for field in ("fee", "name"):
        assert shop(f"destroy field depot {field}")[1] == ""
    generate_fields(shop, "depot later:int?")
    insert = "INSERT INTO depots (name, fee_cents) VALUES ('Maple', 5)"
    found = "SELECT pages, status, code, near_id, cost_cents, story FROM depots"
    down = (f"downgrade {created}", "SELECT name, fee_cents FROM depots")
    up = ("upgrade head", found, "check")
    values = list(fields.values())
    steps = (f"upgrade {created}", insert, *up, *down, *up)
    assert migrate(checkout, empty_database_urls, *steps) == [values, [None, None], values]
    # The newest migration adds it, but was applied: another one drops the field.
    assert "_drop_later_of_depots.py" in shop("destroy field depot later")[0]
    # And the whole resource: the table that comes back has all fields that it had.
    assert "_drop_depots.py" in shop("destroy resource depot --force")[0]
    recorded = "SELECT count(*) FROM events WHERE resource = 'depots'"
    last = ("upgrade head", recorded, "downgrade -1", found, "upgrade head", "check")
    assert migrate(checkout, empty_database_urls, recorded, *last) == [[1], [0]]


BAD_ROUTES = {
    "order GET similar read_similar": "similar: a path is like /latest or /{id}/similar",
    "order GET /{order_id}/similar read_similar": "/{order_id}/similar: a path is like /latest",
    "order POST /close close_all": "POST /close: routes like GET /latest, GET /{id}/similar and",
    "order DELETE /{id}/lines drop_lines": "DELETE /{id}/lines: routes like GET /latest",
    "order GET /latest Latest": "Latest: a handler is named like read_similar_books or close_order",
    "order GET /latest read_users": "read_users: app/api/v1/endpoints/users.py has",
    "order GET /late read_late_orders": "app/api/v1/endpoints/orders.py: has no OrderParams",
    "order GET /{id}/twin read_twin": "/{order_id:id}/twin: app/api/v1/endpoints/orders.py has",
    "order GET /events read_order_events": "/events: app/api/v1/endpoints/orders.py has that route",
    "ordr GET /latest read_latest": "ordr: was not generated; try: order",
}


def test_route_that_cannot_be_added_is_refused_in_one_line(checkout: Path, shop: Shop) -> None:
    generate(shop, ORDER)
    generate_routes(shop, "order GET /{id}/twin read_twin_of_order")
    endpoints = checkout / "app/api/v1/endpoints/orders.py"
    endpoints.write_text(endpoints.read_text().replace("OrderParams", "Params"))
    before = tree(checkout)
    for arguments, expected in BAD_ROUTES.items():
        output, failure = shop(f"generate route {arguments}")
        assert failure.startswith(f"my-shop: {expected}"), (arguments, failure)
        assert ("\n" in failure, output) == (False, "")
    assert tree(checkout) == before
    endpoints.write_text("from app import (")
    failure = shop("generate route order GET /latest read_latest_orders")[1]
    assert failure == "my-shop: app/api/v1/endpoints/orders.py, line 1: '(' was never closed"
    endpoints.unlink()
    failure = shop("generate route order GET /latest read_latest_orders")[1]
    assert failure == "my-shop: app/api/v1/endpoints/orders.py is gone"


@pytest.mark.seconds(5)
def test_resource_is_renamed_as_the_page_says(
    checkout: Path, shop: Shop, empty_database_urls: list[str]
) -> None:
    """The commands and the migration of docs/rename-a-resource.md, as they stand there."""

    def shell(script: str) -> None:
        subprocess.run(["/bin/bash", "-ec", script], cwd=checkout, check=True)

    page = (ROOT / "docs/rename-a-resource.md").read_text()
    blocks = re.findall(r"```(?:sh|python)\n(.*?)```", page, re.DOTALL)
    calls, files, _, migration, *_ = blocks
    generate(shop, *re.findall("generate resource (.*)", calls), "parcel orders:refs:order")
    head = head_in(checkout)
    shell("git init -q && git add app tests")
    shell(files.replace("make format\ngit diff HEAD\n", ""))
    path = checkout / "alembic/versions/2030-01-01_0000_rename_orders_to_purchases.py"
    stays = "# revision, down_revision and the others stay as they are"
    assert stays in migration
    path.write_text(
        migration.replace(stays, f'revision = "1234567890ab"\ndown_revision = "{head}"')
    )
    run_in(checkout, "ruff", "format", "-q", ".")
    run_in(checkout, "ruff", "check", "--fix", "-q", ".")
    left = r"(orders|order_crud|(models|schemas|crud)\.order)"
    shell(f"! git grep -nwE '{left}' 'app/*.py' 'tests/*.py' | grep -v '[a-z] orders'")
    generate_fields(
        shop, "purchase pages:int=7", "order_line again:ref:purchase?", "parcel pages:int=7"
    )
    assert shop("generate field order pages:int=0")[1].startswith(
        "my-shop: order: was not generated"
    )
    assert shop("destroy field purchase note")[1] == ""
    generate_routes(shop, "purchase GET /{id}/twin read_twin_of_purchase")
    failure = shop("destroy resource purchase")[1]
    assert failure.startswith("my-shop: purchase: order_line refers to it; first: ")

    order = "(number, note, amount_cents, owner_id) VALUES ('N-1', 'Maple', 5, 1)"
    user = "(email, username, hashed_password) VALUES ('a@example.com', 'a', '')"
    lines = "SELECT number, order_id FROM order_lines JOIN {} AS one ON one.id = order_id"
    before = (
        f"upgrade {head}",
        f"INSERT INTO users {user}",
        f"INSERT INTO orders {order}",
        "INSERT INTO order_lines (order_id, quantity, owner_id) VALUES (1, 2, 1)",
        lines.format("orders"),
    )
    there = ("upgrade head", "check", lines.format("purchases"))
    back = (f"downgrade {head}", lines.format("orders"))
    steps = (*before, *there, *back)
    assert migrate(checkout, empty_database_urls, *steps) == [["N-1", 1]] * 3
