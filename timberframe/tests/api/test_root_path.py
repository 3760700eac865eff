"""The API under a prefix, behind a proxy that passes it on and behind one that strips it."""

import re
from collections.abc import Iterator
from urllib.parse import urljoin

import httpx2
import pytest
from pydantic import ValidationError

from specimen.config import Settings
from timberframe.testing import ALICE, serving
from timberframe.testing.databases import ENGINES, new_database

pytestmark = pytest.mark.seconds(4)

PRODUCTS = "/shop/api/v1/products/"


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def url(engine: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """One server for all of these tests, each of which makes products of its own."""
    template = request.getfixturevalue(f"{engine}_template")
    with (
        new_database(engine, request, template) as database_url,
        serving(DATABASE_URL=database_url, ROOT_PATH="/shop") as server,
    ):
        yield server.url


@pytest.mark.parametrize("passed_on", ["/shop", ""], ids=["passed on", "stripped"])
def test_clients_see_the_prefix_everywhere(url: str, passed_on: str) -> None:
    def behind_proxy(path: str) -> str:
        return f"{url}{passed_on}{path.removeprefix('/shop')}"

    with httpx2.Client(headers=ALICE.headers) as client:
        bare = client.get(behind_proxy(PRODUCTS.rstrip("/")))
        assert bare.status_code == 307
        assert httpx2.URL(bare.headers["location"]).path == PRODUCTS
        name = f"LAMP{passed_on.replace('/', '-')}"
        product = {"name": name, "price": "19.90"}
        for sku in (f"{name}-1", f"{name}-2"):
            created = client.post(behind_proxy(PRODUCTS), json=product | {"sku": sku})
            assert created.headers["location"] == f"{PRODUCTS}{created.json()['id']}"
        read = client.get(behind_proxy(created.headers["location"]))
        assert read.json()["sku"] == f"{name}-2"
        path = f"{PRODUCTS}?name={name}&limit=1"
        page = client.get(behind_proxy(path))
        following = re.findall(r'<([^>]*)>; rel="next"', page.headers["link"])
        target = urljoin(path, following[0])
        assert client.get(behind_proxy(target)).json()["items"][0]["sku"] == f"{name}-2"


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_pages_of_documentation_find_what_they_need(url: str) -> None:
    for path in ("/shop/api/docs", "/shop/api/redoc"):
        page = httpx2.get(f"{url}{path}").text
        for needed in re.findall(r'(?:src|href|url)[=:] ?["\'](/[^"\']*)', page):
            assert needed.startswith("/shop/")
            assert httpx2.get(f"{url}{needed}").status_code == 200
    document = httpx2.get(f"{url}/shop/api/openapi.json").json()
    assert [server["url"] for server in document["servers"]] == ["/shop"]
    flows = next(iter(document["components"]["securitySchemes"].values()))["flows"]
    assert flows["password"]["tokenUrl"] == "/shop/api/v1/auth/login"
    assert httpx2.get(f"{url}/health/ready").status_code == 200  # a probe knows no prefix
    assert httpx2.get(f"{url}/shopping/health/ready").status_code == 404


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_limits_of_single_paths_hold_under_the_prefix(url: str) -> None:
    text = "-" * 5000
    rows = "sku,name,description,price\n" + "".join(f"B-{n},Bag,{text},1\n" for n in range(300))
    assert len(rows) > Settings().MAX_BODY_BYTES
    headers = ALICE.headers | {"Content-Type": "text/csv"}
    answer = httpx2.post(f"{url}{PRODUCTS}import", content=rows, headers=headers, timeout=60)
    assert answer.json()["created"] == 300
    form = {"username": "a" * 20_000, "password": "b"}
    assert httpx2.post(f"{url}/shop/api/v1/auth/login", data=form).status_code == 413


@pytest.mark.parametrize("prefix", ["/api", "/health", "/api/v1", "shop", "/shop/", "/"])
def test_prefix_that_cannot_be_told_from_a_path_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError):
        Settings(ROOT_PATH=prefix)


def test_prefix_may_have_several_parts() -> None:
    assert Settings(ROOT_PATH="/shop/api").ROOT_PATH == "/shop/api"
