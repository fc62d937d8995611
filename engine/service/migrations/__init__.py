"""Steps of the store's schema, run by alembic at every start (see engine/service/database.py)."""
