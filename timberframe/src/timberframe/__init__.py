"""The frame of an API: what stays the same from one API to the next, on FastAPI and SQLAlchemy.

Its public names are in `models`, `schemas`, `crud`, `results`, `routes` and `errors`. An
application starts with `app`, `settings`, `accounts`, `cli` and `migrations`. Anything else may
change.
"""
