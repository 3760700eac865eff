"""Checks that hold for any application; a test module of its own takes them all in.

`from timberframe.testing.checks import *` is all that stands in it.
"""

from timberframe.testing.checks.documentation import *  # noqa: F403
from timberframe.testing.checks.fields import *  # noqa: F403
from timberframe.testing.checks.migrations import *  # noqa: F403
from timberframe.testing.checks.openapi import *  # noqa: F403
from timberframe.testing.checks.permissions import *  # noqa: F403
from timberframe.testing.checks.preconditions import *  # noqa: F403
from timberframe.testing.checks.resources import *  # noqa: F403
from timberframe.testing.checks.schema import *  # noqa: F403
