"""The routes, by Django REST Framework."""

from django.urls import path
from rest_framework import generics, permissions, serializers
from rest_framework.pagination import CursorPagination

from benchmarks.peers.django_orm.models import Product, User


class UserSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        exclude = ["hashed_password"]


class ProductSerializer(serializers.ModelSerializer):
    price = serializers.DecimalField(max_digits=12, decimal_places=2)
    tags = serializers.ListField(child=serializers.CharField(), default=list)
    owner_id = serializers.IntegerField(read_only=True)

    class Meta:
        model = Product
        exclude = ["owner"]


class Pages(CursorPagination):
    """The pagination that its documentation has for large tables: it counts nothing."""

    page_size = 100
    page_size_query_param = "limit"
    max_page_size = 100
    ordering = "id"


class ProductsView(generics.ListCreateAPIView):
    queryset = Product.objects.all()
    serializer_class = ProductSerializer
    pagination_class = Pages

    def perform_create(self, serializer):
        serializer.save(owner=self.request.user)


class ProductView(generics.RetrieveAPIView):
    queryset = Product.objects.all()
    serializer_class = ProductSerializer


class MeView(generics.RetrieveAPIView):
    serializer_class = UserSerializer
    permission_classes = [permissions.IsAuthenticated]

    def get_object(self):
        return self.request.user


urlpatterns = [
    path("api/v1/products/", ProductsView.as_view()),
    path("api/v1/products/<int:pk>", ProductView.as_view()),
    path("api/v1/users/me", MeView.as_view()),
]
