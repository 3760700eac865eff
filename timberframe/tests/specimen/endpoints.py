"""The specimen's routes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, status

from specimen import models, schemas, webhooks
from specimen.crud import product_crud, stock_movement_crud, user_crud
from timberframe.crud import Principal
from timberframe.errors import (
    AlreadyExists,
    Conflict,
    DeletionUnfinished,
    InvalidToken,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    RateLimited,
    UnsupportedMediaType,
)
from timberframe.results import Created, Slice, Stored
from timberframe.routes import (
    EVENT_RESPONSES,
    EXPORT_RESPONSES,
    IMPORT_RESPONSES,
    CurrentSuperuser,
    CurrentUser,
    DbRead,
    DbSession,
    DbWrite,
    Download,
    EventStream,
    LineRoute,
    OptionalUser,
    PasswordChecked,
    Router,
    SignIn,
    check_precondition,
    creator_of,
    export_of,
    followed,
    import_of,
    jobs_router,
    limit_sign_ups,
    listed,
    problems,
    readable,
    superuser_only,
    unchanged,
    writable,
)
from timberframe.schemas import Pagination
from timberframe.schemas.bulk import ImportReport
from timberframe.schemas.token import Token

auth, users, products = Router(), Router(), Router()
files = APIRouter(route_class=LineRoute)


@auth.post("/login", responses=problems(NotAuthenticated, UnsupportedMediaType, RateLimited))
async def login(sign_in: SignIn) -> Token:
    """Exchange an e-mail address or username and its password for an access token."""
    return await sign_in.token()


UserId = Annotated[int, Path(description="The `id` of the user", examples=[1])]


async def get_own_account(database: DbRead, current_user: CurrentUser) -> models.User:
    """The caller's row, read outside the request's transaction, as the caller is."""
    async with database.reading() as db:
        user = await user_crud.get(db, current_user.id, viewer=current_user)
    if user is None:
        raise InvalidToken
    return user


async def get_user_in_path(
    user_id: UserId, db: DbSession, superuser: CurrentSuperuser
) -> models.User:
    """The user in the path, not yet locked: superusers are locked together later, in one order."""
    user = await user_crud.get(db, user_id, viewer=superuser)
    if user is None:
        raise NotFound("User")
    return user


async def check_self_or_superuser(user_id: UserId, current_user: CurrentUser) -> None:
    """Refuse all others with 403, so that they do not learn which users exist."""
    if user_id != current_user.id and not current_user.is_superuser:
        raise NotPermitted


UserParams = Annotated[Pagination, Depends(listed(user_crud))]
UserToChange = Annotated[models.User, Depends(unchanged(user_crud, get_user_in_path))]
OwnAccount = Annotated[models.User, Depends(unchanged(user_crud, get_own_account))]
UserInPath = Annotated[Stored[models.User], Depends(readable(user_crud))]


@users.get(
    "/",
    response_model=schemas.UserList,
    dependencies=[superuser_only],
    responses=problems(NotPermitted),
)
async def read_users(
    db: DbRead, params: UserParams, current_user: CurrentUser
) -> Slice[models.User]:
    """List all users, for superusers."""
    return await user_crud.get_multi(db, params=params, viewer=current_user)


@users.post(
    "/",
    response_model=schemas.User,
    status_code=status.HTTP_201_CREATED,
    dependencies=[Depends(limit_sign_ups)],
    responses=problems(AlreadyExists, NotPermitted, RateLimited),
)
async def create_user(db: DbWrite, user_in: schemas.UserCreate) -> Created[models.User]:
    """Sign up."""
    return await user_crud.create(db, obj_in=user_in, viewer=None)


@users.get("/me", response_model=schemas.User)
async def read_user_me(current_user: CurrentUser, db: DbRead) -> Stored[models.User]:
    """Read oneself."""
    user = await user_crud.read(db, current_user.id, viewer=current_user)
    if user is None:
        raise NotAuthenticated
    return user


@users.put(
    "/me", response_model=schemas.User, responses=problems(AlreadyExists, NotPermitted, RateLimited)
)
@users.patch(
    "/me",
    response_model=schemas.User,
    responses=problems(AlreadyExists, NotPermitted, RateLimited),
)
async def update_user_me(
    db: DbSession,
    user_in: schemas.UserUpdate,
    user: OwnAccount,
    password_check: PasswordChecked,
) -> models.User:
    """Change oneself; a new e-mail address or password needs the current password."""
    if user_in.needs_password:
        await password_check.confirm(user, user_in.current_password)
    return await user_crud.update(db, db_obj=user, obj_in=user_in)


@users.get(
    "/{user_id:id}",
    response_model=schemas.User,
    dependencies=[Depends(check_self_or_superuser)],
    responses=problems(NotPermitted, NotFound),
)
async def read_user(user: UserInPath) -> Stored[models.User]:
    """Read oneself, or anybody as a superuser."""
    return user


@users.patch(
    "/{user_id:id}",
    response_model=schemas.User,
    dependencies=[superuser_only],
    responses=problems(AlreadyExists, NotPermitted, NotFound, Conflict),
)
async def update_user(
    db: DbSession, user: UserToChange, user_in: schemas.UserAdminUpdate
) -> models.User:
    """Change, disable or promote a user, for superusers."""
    return await user_crud.update(db, db_obj=user, obj_in=user_in)


@users.delete(
    "/{user_id:id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(NotPermitted, NotFound, Conflict, DeletionUnfinished),
)
async def delete_user(
    request: Request,
    user_id: UserId,
    database: DbRead,
    superuser: Annotated[Principal, superuser_only],
) -> None:
    """Delete a user and all they own, for superusers; a 503 asks for the same request again."""
    # The account is disabled first; then its rows are deleted in batches, for some seconds.
    async with database.transaction() as db:
        user = await user_crud.get(db, user_id, viewer=superuser)
        if user is None:
            raise NotFound("User")
        if not user.deleting_since:  # once begun, a deletion continues from any state
            check_precondition(request, user)
        await user_crud.begin_deletion(db, db_obj=user)
    try:
        await user_crud.finish_deletion(database, user_id)
    finally:
        await user_crud.note_write(database, superuser.id)


ProductParams = Annotated[Pagination, Depends(listed(product_crud))]
ProductEvents = Annotated[EventStream, Depends(followed(product_crud))]
ProductInPath = Annotated[Stored[models.Product], Depends(readable(product_crud))]
ProductCreator = Annotated[Principal, Depends(creator_of(product_crud))]
OwnProduct = Annotated[models.Product, Depends(writable(product_crud))]
DeletedProduct = Annotated[models.Product, Depends(writable(product_crud, with_deleted=True))]


@products.get("/", response_model=schemas.ProductList)
async def read_products(
    db: DbRead, params: ProductParams, viewer: OptionalUser
) -> Slice[models.Product]:
    """List products; inactive ones only to their owner and superusers."""
    return await product_crud.get_multi(db, params=params, viewer=viewer)


@products.get("/events", responses=EVENT_RESPONSES)
async def follow_products(events: ProductEvents) -> EventStream:
    """Follow products as server-sent events; inactive ones only as their owner or a superuser."""
    return events


@products.post(
    "/",
    response_model=schemas.Product,
    status_code=status.HTTP_201_CREATED,
    responses=problems(AlreadyExists),
)
async def create_product(
    creator: ProductCreator, db: DbWrite, product_in: schemas.ProductCreate
) -> Created[models.Product]:
    """Create a product, owned by the caller."""
    return await product_crud.create(db, obj_in=product_in, viewer=creator, owner_id=creator.id)


@products.get(
    "/{product_id:id}",
    response_model=schemas.Product,
    responses=problems(NotFound),
)
async def read_product(product: ProductInPath) -> Stored[models.Product]:
    """Read a product; an inactive one only as its owner or a superuser."""
    return product


@products.put(
    "/{product_id:id}",
    response_model=schemas.Product,
    responses=problems(AlreadyExists, NotPermitted, NotFound),
)
@products.patch(
    "/{product_id:id}",
    response_model=schemas.Product,
    responses=problems(AlreadyExists, NotPermitted, NotFound),
)
async def update_product(
    db: DbSession,
    product: OwnProduct,
    product_in: schemas.ProductUpdate,
    current_user: CurrentUser,
) -> models.Product:
    """Change any part of a product, as its owner or a superuser."""
    return await product_crud.update(db, db_obj=product, obj_in=product_in, viewer=current_user)


@products.delete(
    "/{product_id:id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(NotPermitted, NotFound),
)
async def delete_product(db: DbSession, product: OwnProduct) -> None:
    """Delete a product until it is restored, as its owner or a superuser."""
    await product_crud.delete(db, db_obj=product)


@products.post(
    "/{product_id:id}/restore",
    response_model=schemas.Product,
    responses=problems(AlreadyExists, NotPermitted, NotFound),
)
async def restore_product(db: DbSession, product: DeletedProduct) -> models.Product:
    """Bring a deleted product back, as its owner or a superuser; others may have its sku by now."""
    return await product_crud.restore(db, db_obj=product)


ImportedProducts = Annotated[
    ImportReport,
    Depends(import_of(product_crud, schemas.ProductCreate, owner=models.Product.owner_id)),
]
ExportedProducts = Annotated[Download, Depends(export_of(product_crud, schemas.ProductCreate))]


@files.post("/import", response_model=ImportReport, responses=IMPORT_RESPONSES)
async def import_products(report: ImportedProducts) -> ImportReport:
    """Create products, and update those of the caller that have the same sku, from a file."""
    return report


@files.get(
    "/export",
    status_code=status.HTTP_200_OK,  # FastAPI looks for it in StreamingResponse's own signature
    response_class=Download,
    responses=EXPORT_RESPONSES,
)
async def export_products(download: ExportedProducts) -> Download:
    """Export a list of products as a file that can be imported again."""
    return download


MovementParams = Annotated[Pagination, Depends(listed(stock_movement_crud))]


@products.get(
    "/{product_id:id}/stock-movements",
    response_model=schemas.StockMovementList,
    responses=problems(NotPermitted, NotFound),
)
async def read_stock_movements(
    db: DbRead, product: OwnProduct, params: MovementParams, current_user: CurrentUser
) -> Slice[models.StockMovement]:
    """List what came into stock and went out, as the product's owner or a superuser."""
    return await stock_movement_crud.get_multi(
        db,
        params=params,
        viewer=current_user,
        within={models.StockMovement.product_id: product.id},
    )


@products.post(
    "/{product_id:id}/stock-movements",
    response_model=schemas.StockMovement,
    status_code=status.HTTP_201_CREATED,
    responses=problems(NotPermitted, NotFound, Conflict),
)
async def create_stock_movement(
    db: DbSession,
    product: OwnProduct,
    movement_in: schemas.StockMovementCreate,
    current_user: CurrentUser,
) -> Created[models.StockMovement]:
    """Add to the stock or take from it, as the owner or a superuser; 409 if it is short."""
    return await stock_movement_crud.move(
        db, product=product, obj_in=movement_in, moved_by=current_user
    )


router = APIRouter()
router.include_router(auth, prefix="/auth", tags=["auth"])
router.include_router(users, prefix="/users", tags=["users"])
router.include_router(files, prefix="/products", tags=["products"])
router.include_router(products, prefix="/products", tags=["products"])
router.include_router(jobs_router, prefix="/jobs", tags=["jobs"])
router.include_router(webhooks.router, prefix="/webhooks", tags=["webhooks"])
