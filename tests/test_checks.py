"""The frame's checks, which hold for every route of this application."""

import pytest
from timberframe.testing.checks import *  # noqa: F403

pytestmark = pytest.mark.all_resources
