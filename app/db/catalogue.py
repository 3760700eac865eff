"""Triggers that track which products have a tag, and how many each category has.

They are triggers so that no write path can bypass them. Migrations call `create_v1` and `drop_v1`,
so these never change: different triggers would be a `_v2`.

On PostgreSQL a writer locks the rows it changes until its transaction ends. A category's count is
therefore spread over slots, so that writers into the same category seldom wait. Only products that
everybody may see are counted; a change of stock changes no count.
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
    # All parts of this SQL are constants of this file.
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
    # In one order, so that two writers of several categories cannot deadlock.
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
    # Once per statement: once per row, a million rows would leave a million dead versions.
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
