"""The specimen's application."""

from specimen.config import settings
from specimen.crud import user_crud
from specimen.endpoints import router
from specimen.jobs import JOBS
from specimen.webhooks import WEBHOOK_JOBS
from timberframe.app import create_app

app = create_app(
    settings,
    accounts=user_crud,
    jobs=(*JOBS, *WEBHOOK_JOBS),
    routers={settings.API_V1_PREFIX: router},
)
