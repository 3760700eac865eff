"""What the database itself keeps of products: who has a tag, how many a category has.

Triggers do, so that no write path can miss it. Migrations call `create_v1` and `drop_v1`: what
these do never changes, another way is a `_v2`.

A category's number is spread over slots on PostgreSQL, where a writer locks what it changes until
its transaction ends: who writes into the same category then seldom waits. Products count while
everybody may see them; a change of stock is none here.
"""

from collections.abc import Callable

_SLOTS = 16
_COUNTED = "{0}.category IS NOT NULL AND {0}.is_active AND {0}.deleted_at IS NULL"


def create_v1(execute: Callable[[str], object], dialect: str) -> None:
    for statement in _SQLITE if dialect == "sqlite" else _POSTGRESQL:
        execute(statement)


def drop_v1(execute: Callable[[str], object], dialect: str) -> None:
    on = "" if dialect == "sqlite" else " ON products"
    for name in _TRIGGERS:
        execute(f"DROP TRIGGER products_{name}{on}")
    if dialect == "postgresql":
        execute("DROP FUNCTION list_product_tags()")
        execute("DROP FUNCTION count_products()")


_TRIGGERS = (
    *("tags_inserted", "tags_updated"),
    *("category_inserted", "category_updated", "category_deleted"),
)

TRIGGERS = {
    dialect: [f"products_{name}" for name in _TRIGGERS] for dialect in ("sqlite", "postgresql")
}

_ADD_TAGS = (
    "INSERT INTO product_tags (tag, product_id) SELECT value, new.id FROM json_each(new.tags);"
)
_REMOVE_TAGS = "DELETE FROM product_tags WHERE product_id = old.id;"


def _sqlite_count(row: str, change: str) -> str:
    # Text of this file alone.
    return f"""INSERT INTO category_counts (category, slot, products)
        SELECT {row}.category, 0, {change} WHERE {_COUNTED.format(row)}
        ON CONFLICT (category, slot) DO UPDATE SET products = products + excluded.products;
    """


_SQLITE = [
    f"""CREATE TRIGGER products_tags_inserted AFTER INSERT ON products
        WHEN new.tags <> '[]' BEGIN {_ADD_TAGS} END""",
    f"""CREATE TRIGGER products_tags_updated AFTER UPDATE OF tags ON products
        WHEN new.tags <> old.tags BEGIN {_REMOVE_TAGS} {_ADD_TAGS} END""",
    f"""CREATE TRIGGER products_category_inserted AFTER INSERT ON products
        WHEN new.category IS NOT NULL BEGIN {_sqlite_count("new", "1")} END""",
    f"""CREATE TRIGGER products_category_updated
        AFTER UPDATE OF category, is_active, deleted_at ON products
        WHEN new.category IS NOT old.category OR new.is_active <> old.is_active
            OR new.deleted_at IS NOT old.deleted_at
        BEGIN {_sqlite_count("old", "-1")} {_sqlite_count("new", "1")} END""",
    f"""CREATE TRIGGER products_category_deleted AFTER DELETE ON products
        WHEN old.category IS NOT NULL BEGIN {_sqlite_count("old", "-1")} END""",
]


def _postgresql_count(changes: str) -> str:
    # In one order, so that two writers of several categories do not wait for each other.
    return f"""INSERT INTO category_counts (category, slot, products)
        SELECT category, pg_backend_pid() % {_SLOTS}, sum(change) FROM ({changes}) AS changes
        GROUP BY category HAVING sum(change) <> 0 ORDER BY category
        ON CONFLICT (category, slot)
        DO UPDATE SET products = category_counts.products + excluded.products;
    """  # noqa: S608


def _changes(rows: str, change: int) -> str:
    counted = _COUNTED.format(rows)
    return f"SELECT category, {change} AS change FROM {rows} WHERE {counted}"  # noqa: S608


_POSTGRESQL = [
    """CREATE FUNCTION list_product_tags() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            DELETE FROM product_tags WHERE product_id = old.id;
        END IF;
        INSERT INTO product_tags (tag, product_id)
            SELECT tag, new.id FROM json_array_elements_text(new.tags::json) AS tag;
        RETURN NULL;
    END $$""",
    """CREATE TRIGGER products_tags_inserted AFTER INSERT ON products FOR EACH ROW
        WHEN (new.tags <> '[]') EXECUTE FUNCTION list_product_tags()""",
    """CREATE TRIGGER products_tags_updated AFTER UPDATE OF tags ON products FOR EACH ROW
        WHEN (new.tags <> old.tags) EXECUTE FUNCTION list_product_tags()""",
    # Once a statement, however many rows it has: each row of a million would leave a dead counter.
    f"""CREATE FUNCTION count_products() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            {_postgresql_count(_changes("new_rows", 1))}
        ELSIF TG_OP = 'DELETE' THEN
            {_postgresql_count(_changes("old_rows", -1))}
        ELSE
            {_postgresql_count(_changes("new_rows", 1) + " UNION ALL " + _changes("old_rows", -1))}
        END IF;
        RETURN NULL;
    END $$""",
    """CREATE TRIGGER products_category_inserted AFTER INSERT ON products
        REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_products()""",
    """CREATE TRIGGER products_category_updated AFTER UPDATE ON products
        REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION count_products()""",
    """CREATE TRIGGER products_category_deleted AFTER DELETE ON products
        REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_products()""",
]
