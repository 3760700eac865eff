"""Your settings: those of the frame, with your own defaults, and any that you add."""

import timberframe.settings


class Settings(timberframe.settings.Settings):
    PROJECT_NAME: str = "My API"
    VERSION: str = "1.0.0"
    DESCRIPTION: str = "Users and products."


settings = timberframe.settings.load(Settings)
