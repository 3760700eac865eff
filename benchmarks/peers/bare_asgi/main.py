"""The limit: asyncpg's rows as JSON by an ASGI function; no framework, no check of input."""

import os
from decimal import Decimal

import asyncpg
import jwt
import orjson

SECRET_KEY = os.environ["SECRET_KEY"]
POOL_SIZE = 16

PRODUCT = (
    "id, sku, name, description, price_cents, currency, stock, is_active, category, tags, "
    "owner_id, created_at, updated_at"
)
USER = "id, email, username, full_name, is_active, created_at, updated_at"
WRITTEN = "sku, name, description, price_cents, currency, stock, category, tags, owner_id"

READ_PRODUCT = f"SELECT {PRODUCT} FROM products WHERE id = $1"
READ_PRODUCTS = f"SELECT {PRODUCT} FROM products ORDER BY id LIMIT 100"
READ_USER = f"SELECT {USER} FROM users WHERE id = $1"
CREATE_PRODUCT = (
    f"INSERT INTO products ({WRITTEN}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
    f"RETURNING {PRODUCT}"
)

pool: asyncpg.Pool


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    path, method = scope["path"], scope["method"]
    if path == "/api/v1/products/" and method == "POST":
        user_id, body = user_of(scope), await body_of(receive)
        product = await pool.fetchrow(CREATE_PRODUCT, *values(orjson.loads(body)), user_id)
        await answer(send, 201, shown(product))
    elif path == "/api/v1/products/":
        products = await pool.fetch(READ_PRODUCTS)
        await answer(send, 200, {"items": [shown(product) for product in products]})
    elif path == "/api/v1/users/me":
        await answer(send, 200, dict(await pool.fetchrow(READ_USER, user_of(scope))))
    else:
        product = await pool.fetchrow(READ_PRODUCT, int(path.rpartition("/")[2]))
        await answer(send, 200, shown(product))


async def lifespan(receive, send):
    global pool
    await receive()
    url = os.environ["DATABASE_URL"]
    pool = await asyncpg.create_pool(url, min_size=POOL_SIZE, max_size=POOL_SIZE)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await pool.close()
    await send({"type": "lifespan.shutdown.complete"})


def user_of(scope):
    token = dict(scope["headers"])[b"authorization"].removeprefix(b"Bearer ")
    return int(jwt.decode(token, SECRET_KEY, algorithms=["HS256"])["sub"])


async def body_of(receive):
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    return body


def values(sent):
    return (
        sent["sku"],
        sent["name"],
        sent["description"],
        int(Decimal(sent["price"]) * 100),
        sent["currency"],
        sent["stock"],
        sent["category"],
        orjson.dumps(sent["tags"]).decode(),
    )


def shown(row):
    product = dict(row)
    product["price"] = str(Decimal(product.pop("price_cents")).scaleb(-2))
    product["tags"] = orjson.Fragment(product["tags"])
    return product


async def answer(send, status, content):
    body = orjson.dumps(content)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
