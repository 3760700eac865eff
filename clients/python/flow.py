"""The flow with what openapi-python-client generates."""

import os
from http import HTTPStatus
from uuid import uuid4

from myapi_client import AuthenticatedClient, Client
from myapi_client.api.auth import login
from myapi_client.api.products import (
    create_product,
    patch_product,
    read_product,
    read_products,
    update_product,
)
from myapi_client.api.users import create_user
from myapi_client.models import (
    LoginForm,
    Problem,
    Product,
    ProductCreate,
    ProductList,
    ProductUpdate,
    Token,
    User,
    UserCreate,
)

URL = os.environ["BASE_URL"]
RUN = uuid4().hex[:8]
PASSWORD = "Secret-Pass-1"


def passed(what: str) -> None:
    print(f"PASS openapi-python-client: {what}")


public = Client(base_url=URL)
name = f"python-{RUN}"
user = create_user.sync(
    client=public,
    body=UserCreate(email=f"{name}@example.com", username=name, password=PASSWORD),
)
assert isinstance(user, User), user
passed("sign-up")

wrong = login.sync(client=public, body=LoginForm(username=name, password="Wrong-Pass-1"))
assert isinstance(wrong, Problem), wrong
assert wrong.error == "invalid_grant"
token = login.sync(client=public, body=LoginForm(username=name, password=PASSWORD))
assert isinstance(token, Token), token
client = AuthenticatedClient(base_url=URL, token=token.access_token)
passed("sign-in")

chair = ProductCreate(sku=f"{name}-0", name="Chair", price="19.90", tags=["oak"])
key = str(uuid4())
first = create_product.sync_detailed(client=client, body=chair, idempotency_key=key)
assert first.status_code == HTTPStatus.CREATED
product = first.parsed
assert isinstance(product, Product), product
assert product.price == "19.90"
again = create_product.sync_detailed(client=client, body=chair, idempotency_key=key)
assert isinstance(again.parsed, Product), again
assert again.parsed.id == product.id
assert again.headers["Idempotency-Replayed"] == "true"
taken = create_product.sync(client=client, body=chair)
assert isinstance(taken, Problem), taken
assert taken.code == "already_exists"
passed("create and retry")

skus = [f"{name}-{number}" for number in range(5)]
for sku in skus[1:]:
    made = create_product.sync(client=client, body=ProductCreate(sku=sku, name="Chair", price=20))
    assert isinstance(made, Product), made
seen: list[str] = []
page = read_products.sync(client=client, sku_in=skus, sort="-sku", limit=2)
while isinstance(page, ProductList):
    seen += [each.sku for each in page.items]
    if page.next_cursor is None:
        break
    page = read_products.sync(
        client=client, sku_in=skus, sort="-sku", limit=2, cursor=page.next_cursor
    )
assert seen == sorted(skus, reverse=True), seen
passed("pages")

read = read_product.sync_detailed(product.id, client=client)
etag = read.headers["ETag"]
changed = patch_product.sync(product.id, client=client, body=ProductUpdate(stock=3), if_match=etag)
assert isinstance(changed, Product), changed
assert changed.stock == 3
late = patch_product.sync_detailed(
    product.id, client=client, body=ProductUpdate(stock=4), if_match=etag
)
assert late.status_code == HTTPStatus.PRECONDITION_FAILED
assert isinstance(late.parsed, Problem), late
etag = read_product.sync_detailed(product.id, client=client).headers["ETag"]
same = read_product.sync_detailed(product.id, client=client, if_none_match=etag)
assert same.status_code == HTTPStatus.NOT_MODIFIED
put = update_product.sync(product.id, client=client, body=ProductUpdate.from_dict({"name": "Desk"}))
assert isinstance(put, Product), put
passed("conditional update")
