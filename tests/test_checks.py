"""The frame's checks, which hold for every route of this application."""

from timberframe.testing.checks import *  # noqa: F403
