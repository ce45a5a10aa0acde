"""RETRO: every text value of a relational database gets a vector that carries its meaning and its relations."""

from longspan.relations.database import Database
from longspan.relations.plan import Column, Plan, Relation

__all__ = ["Column", "Database", "Plan", "Relation"]
