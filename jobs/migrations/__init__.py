"""Migrations of the tables, run by `jobs.database.migrate`."""
