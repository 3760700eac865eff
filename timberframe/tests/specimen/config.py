"""The specimen's settings."""

import timberframe.settings


class Settings(timberframe.settings.Settings):
    PROJECT_NAME: str = "Specimen"
    VERSION: str = "1.0.0"
    DESCRIPTION: str = "Users and products."


settings = timberframe.settings.load(Settings)
