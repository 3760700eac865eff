"""Jobs as superusers list and read them; `queue.py` changes them."""

from typing import Any, ClassVar

from timberframe.crud import EQUALITY, CRUDBase, Policy, superusers
from timberframe.jobs import schemas
from timberframe.jobs.models import JobRecord


class CRUDJob(CRUDBase[JobRecord, Any, Any]):
    policy = Policy(read=superusers, write=superusers)
    schema = schemas.Job
    filters: ClassVar = {JobRecord.status: EQUALITY, JobRecord.name: EQUALITY}


job_crud = CRUDJob(JobRecord)
