"""Litestar with Advanced Alchemy: its plugin, a service for each table, and DTOs."""

import os
from typing import Annotated

from advanced_alchemy.extensions.litestar import (
    AsyncSessionConfig,
    EngineConfig,
    SQLAlchemyAsyncConfig,
    SQLAlchemyDTO,
    SQLAlchemyDTOConfig,
    SQLAlchemyPlugin,
    providers,
    repository,
    service,
)
from advanced_alchemy.filters import LimitOffset, OrderBy
from litestar import Controller, Litestar, Request, get, post
from litestar.config.compression import CompressionConfig
from litestar.config.cors import CORSConfig
from litestar.connection import ASGIConnection
from litestar.dto import DTOData
from litestar.params import Parameter
from litestar.security.jwt import JWTAuth, Token

from benchmarks.peers.tables import Product, User


class ProductService(service.SQLAlchemyAsyncRepositoryService[Product]):
    class Repository(repository.SQLAlchemyAsyncRepository[Product]):
        model_type = Product

    repository_type = Repository


class ProductRead(SQLAlchemyDTO[Product]):
    pass


class ProductCreate(SQLAlchemyDTO[Product]):
    config = SQLAlchemyDTOConfig(exclude={"id", "owner_id", "created_at", "updated_at"})


class UserRead(SQLAlchemyDTO[User]):
    config = SQLAlchemyDTOConfig(exclude={"hashed_password"})


class ProductController(Controller):
    path = "/api/v1/products"
    dependencies = providers.create_service_dependencies(ProductService, "products")
    return_dto = ProductRead

    @get("/", exclude_from_auth=True)
    async def read_products(
        self,
        products: ProductService,
        skip: Annotated[int, Parameter(ge=0)] = 0,
        limit: Annotated[int, Parameter(ge=1, le=100)] = 100,
    ) -> list[Product]:
        return list(await products.list(LimitOffset(limit, skip), OrderBy("id")))

    @get("/{product_id:int}", exclude_from_auth=True)
    async def read_product(self, products: ProductService, product_id: int) -> Product:
        return await products.get(product_id)

    @post("/", dto=ProductCreate)
    async def create_product(
        self, products: ProductService, data: DTOData[Product], request: Request[User, Token, None]
    ) -> Product:
        return await products.create(data.create_instance(owner_id=request.user.id))


@get("/api/v1/users/me", return_dto=UserRead)
async def read_user_me(request: Request[User, Token, None]) -> User:
    return request.user


async def retrieve_user(token: Token, connection: ASGIConnection) -> User | None:
    session = alchemy.provide_session(connection.app.state, connection.scope)
    return await session.get(User, int(token.sub))


alchemy = SQLAlchemyAsyncConfig(
    connection_string=os.environ["DATABASE_URL"].replace(
        "postgresql://", "postgresql+asyncpg://", 1
    ),
    engine_config=EngineConfig(pool_size=16),
    session_config=AsyncSessionConfig(expire_on_commit=False),
    before_send_handler="autocommit",
)
authentication = JWTAuth[User](
    retrieve_user_handler=retrieve_user, token_secret=os.environ["SECRET_KEY"]
)
app = Litestar(
    [ProductController, read_user_me],
    plugins=[SQLAlchemyPlugin(alchemy)],
    on_app_init=[authentication.on_app_init],
    cors_config=CORSConfig(allow_origins=["http://localhost:3000"]),
    compression_config=CompressionConfig(backend="gzip"),
    openapi_config=None,
)
