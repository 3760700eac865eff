"""The checks that hold for any application, here for the specimen."""

from timberframe.testing.checks import *  # noqa: F403
