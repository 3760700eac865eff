"""Bearer tokens for Django REST Framework."""

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed

from benchmarks.peers.django_orm.tokens import user_of


class BearerAuthentication(BaseAuthentication):
    def authenticate(self, request):
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return None
        user = user_of(token)
        if user is None:
            raise AuthenticationFailed
        return user, token

    def authenticate_header(self, request):
        return "Bearer"
