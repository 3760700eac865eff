"""The checks that hold for any application, here for the specimen."""

from timberframe.testing.checks.migrations import *  # noqa: F403
from timberframe.testing.checks.permissions import *  # noqa: F403
from timberframe.testing.checks.preconditions import *  # noqa: F403
from timberframe.testing.checks.schema import *  # noqa: F403
