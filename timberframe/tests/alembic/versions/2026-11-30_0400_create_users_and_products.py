"""create users and products"""

from collections.abc import Sequence

from alembic import op

from timberframe.data.base import Base

revision: str = "a10000000001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


TAGS = {
    "sqlite": [
        """CREATE TRIGGER products_tags_inserted AFTER INSERT ON products
        WHEN new.tags <> '[]' BEGIN
        INSERT INTO product_tags (tag, product_id) SELECT value, new.id FROM json_each(new.tags);
        END""",
        """CREATE TRIGGER products_tags_updated AFTER UPDATE OF tags ON products
        WHEN new.tags <> old.tags BEGIN
        DELETE FROM product_tags WHERE product_id = old.id;
        INSERT INTO product_tags (tag, product_id) SELECT value, new.id FROM json_each(new.tags);
        END""",
    ],
    "postgresql": [
        """CREATE FUNCTION list_product_tags() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP = 'UPDATE' THEN DELETE FROM product_tags WHERE product_id = old.id; END IF;
        INSERT INTO product_tags (tag, product_id)
            SELECT tag, new.id FROM json_array_elements_text(new.tags::json) AS tag;
        RETURN NULL; END $$""",
        """CREATE TRIGGER products_tags_inserted AFTER INSERT ON products FOR EACH ROW
        WHEN (new.tags <> '[]') EXECUTE FUNCTION list_product_tags()""",
        """CREATE TRIGGER products_tags_updated AFTER UPDATE OF tags ON products FOR EACH ROW
        WHEN (new.tags <> old.tags) EXECUTE FUNCTION list_product_tags()""",
    ],
}
TABLES = ("users", "categories", "products", "product_tags")


def upgrade() -> None:
    connection = op.get_bind()
    for name in TABLES:
        Base.metadata.tables[name].create(connection)
    for statement in TAGS[connection.dialect.name]:
        connection.exec_driver_sql(statement)


def downgrade() -> None:
    connection = op.get_bind()
    for name in reversed(TABLES):
        Base.metadata.tables[name].drop(connection)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DROP FUNCTION list_product_tags()")
