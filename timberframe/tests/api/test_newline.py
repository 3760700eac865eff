"""JSON ends with a newline: after `curl` the prompt is on a line of its own."""

import httpx2

PRODUCT = {"sku": "LAMP-1", "name": "Lamp", "price": "19.90"}
PLAIN = {"Accept-Encoding": "identity"}
CSV = {"Content-Type": "text/csv"}


async def test_json_of_every_kind_ends_with_a_newline(alice: httpx2.AsyncClient) -> None:
    answers = [
        await alice.post("products/", json=PRODUCT),  # made by the database
        await alice.get("products/1"),
        await alice.get("products/"),
        await alice.get("users/me"),
        await alice.get("http://testserver/health"),  # made by FastAPI
        await alice.post("auth/login", data={"username": "alice", "password": "Alice-Pass-1"}),
        await alice.get("http://testserver/api/openapi.json", headers=PLAIN),
        await alice.post("products/import", content="sku,name,price\n", headers=CSV),
        await alice.get("products/2"),  # problems
        await alice.post("products/import", content="sku,name,price\nA\n", headers=CSV),
        await alice.post("products/", json={}),
        await alice.get("http://testserver/nowhere"),
    ]
    for answer in answers:
        assert answer.text.endswith("}\n")
        assert int(answer.headers["content-length"]) == len(answer.content)


async def test_what_has_no_content_has_no_newline(alice: httpx2.AsyncClient) -> None:
    created = await alice.post("products/", json=PRODUCT)
    path = f"products/{created.json()['id']}"
    known = await alice.get(path, headers={"If-None-Match": created.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    deleted = await alice.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
