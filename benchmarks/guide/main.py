"""The guide's way, mended only as far as today's versions and equal answers ask for it."""

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware

from benchmarks.guide.config import settings
from benchmarks.guide.endpoints import products, users

app = FastAPI(title="My API", docs_url="/api/docs", openapi_url="/api/openapi.json")
app.add_middleware(
    CORSMiddleware,
    allow_origins=settings.ALLOWED_ORIGINS,
    allow_credentials=True,
    allow_methods=["*"],
    allow_headers=["*"],
)
app.add_middleware(GZipMiddleware, minimum_size=1000)
app.include_router(users, prefix="/api/v1/users")
app.include_router(products, prefix="/api/v1/products")
