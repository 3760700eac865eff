"""The application: `app.main:app` for any ASGI server."""

from timberframe.app import create_app

from app.api.v1.api import api_router
from app.core.config import settings
from app.crud import user_crud
from app.jobs import JOBS

app = create_app(
    settings, accounts=user_crud, jobs=JOBS, routers={settings.API_V1_PREFIX: api_router}
)
