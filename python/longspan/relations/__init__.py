"""RETRO: every text value of a relational database gets a vector that carries its meaning and its relations.

from longspan import Encoder
from longspan.relations import Database, retrofit

plan = Database("sqlite:///films.db").plan(exclude=["films.genre"])
result = retrofit(plan, Encoder("sentence-transformers/all-MiniLM-L6-v2"))
result.neighbors("films.title", "Alien")
"""

from longspan.relations.choose import Choice, choose
from longspan.relations.database import Database
from longspan.relations.plan import Column, Plan, Relation
from longspan.relations.result import Retrofitted
from longspan.relations.retrofit import retrofit

__all__ = ["Choice", "Column", "Database", "Plan", "Relation", "Retrofitted", "choose", "retrofit"]
