"""The API under a prefix, behind a proxy that passes it on and behind one that strips it."""

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest
from pydantic import ValidationError

from specimen.config import Settings, settings
from timberframe.testing import ALICE, create_app, lifespan, serving

pytestmark = pytest.mark.seconds(4)

PRODUCTS = "/shop/api/v1/products/"


@pytest.fixture
async def alice(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx2.AsyncClient]:
    monkeypatch.setattr(settings, "ROOT_PATH", "/shop")
    app = create_app()
    transport = httpx2.ASGITransport(app)
    async with (
        lifespan(app),
        httpx2.AsyncClient(
            transport=transport, base_url="http://testserver", headers=ALICE.headers
        ) as client,
    ):
        yield client


async def test_clients_see_the_prefix_everywhere(alice: httpx2.AsyncClient) -> None:
    for passed_on in ("/shop", ""):  # which a proxy strips
        products = f"{passed_on}{PRODUCTS.removeprefix('/shop')}"
        bare = await alice.get(products.rstrip("/"))
        assert bare.status_code == 307
        assert httpx2.URL(bare.headers["location"]).path == PRODUCTS
        for number in (1, 2):
            product = {"sku": f"LAMP{passed_on}-{number}", "name": "Lamp", "price": "19.90"}
            created = await alice.post(products, json=product)
            assert created.headers["location"] == f"{PRODUCTS}{created.json()['id']}"
        location = created.headers["location"].removeprefix("/shop")
        read = await alice.get(f"{passed_on}{location}")
        assert read.json()["sku"] == product["sku"]
        page = await alice.get(products, params={"limit": 1})
        [following] = re.findall(r'<([^>]*)>; rel="next"', page.headers["link"])
        path = urljoin(PRODUCTS, following).removeprefix("/shop")
        second = await alice.get(f"{passed_on}{path}")
        assert [each["id"] for each in second.json()["items"]] == [2]


@pytest.fixture(scope="module")
def served(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    """A client of a real server."""
    file = tmp_path_factory.mktemp("root_path") / "specimen.db"
    shutil.copyfile(sqlite_template, file)
    with (
        serving(DATABASE_URL=f"sqlite:///{file}", ROOT_PATH="/shop") as server,
        httpx2.Client(base_url=server.url, timeout=60, verify=False) as client,
    ):
        yield client


def test_pages_of_documentation_find_what_they_need(served: httpx2.Client) -> None:
    for path in ("/shop/api/docs", "/shop/api/redoc", "/api/docs"):
        page = served.get(path).text
        for needed in re.findall(r'(?:src|href|url)[=:] ?["\'](/[^"\']*)', page):
            assert needed.startswith("/shop/")
            assert served.get(needed).status_code == 200
    document = served.get("/shop/api/openapi.json").json()
    assert [server["url"] for server in document["servers"]] == ["/shop"]
    flows = next(iter(document["components"]["securitySchemes"].values()))["flows"]
    assert flows["password"]["tokenUrl"] == "/shop/api/v1/auth/login"
    assert served.get("/health/ready").status_code == 200  # a probe knows no prefix
    assert served.get("/shopping/health/ready").status_code == 404


def test_limits_of_single_paths_hold_under_the_prefix(served: httpx2.Client) -> None:
    text = "-" * 5000
    rows = "sku,name,description,price\n" + "".join(f"B-{n},Bag,{text},1\n" for n in range(300))
    assert len(rows) > Settings().MAX_BODY_BYTES
    headers = ALICE.headers | {"Content-Type": "text/csv"}
    answer = served.post(f"{PRODUCTS}import", content=rows, headers=headers)
    assert answer.json()["created"] == 300
    form = {"username": "a" * 20_000, "password": "b"}
    assert served.post("/shop/api/v1/auth/login", data=form).status_code == 413


@pytest.mark.parametrize("passed_on", ["/shop", ""], ids=["passed on", "stripped"])
def test_addresses_in_answers_of_a_real_server_have_the_prefix(
    served: httpx2.Client, passed_on: str
) -> None:
    products = f"{passed_on}/api/v1/products"
    assert httpx2.URL(served.get(products).headers["location"]).path == PRODUCTS
    product = {"sku": f"LAMP{passed_on}", "name": "Lamp", "price": "19.90"}
    created = served.post(f"{products}/", json=product, headers=ALICE.headers)
    assert created.headers["location"] == f"{PRODUCTS}{created.json()['id']}"


@pytest.mark.parametrize("prefix", ["/api", "/health", "/api/v1", "shop", "/shop/", "/"])
def test_prefix_that_cannot_be_told_from_a_path_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError):
        Settings(ROOT_PATH=prefix)


def test_prefix_may_have_several_parts() -> None:
    assert Settings(ROOT_PATH="/shop/api").ROOT_PATH == "/shop/api"
