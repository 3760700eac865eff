"""The settings, from the environment."""

from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    SECRET_KEY: str
    ALGORITHM: str = "HS256"
    DATABASE_URL: str
    ALLOWED_ORIGINS: list[str] = ["http://localhost:3000"]


settings = Settings()
