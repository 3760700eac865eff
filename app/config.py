"""The guide names two homes for the settings; `app.core.config` is the real one."""

from app.core.config import settings

__all__ = ["settings"]
