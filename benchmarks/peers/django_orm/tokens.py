"""Who sent a request: the user that a bearer token names."""

import jwt
from django.conf import settings

from benchmarks.peers.django_orm.models import User


def user_of(token: str) -> User | None:
    try:
        payload = jwt.decode(token, settings.SECRET_KEY, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        return None
    return User.objects.filter(pk=int(payload["sub"]), is_active=True).first()
