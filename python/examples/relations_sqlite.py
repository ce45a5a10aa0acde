"""Vectors for a database's values: meaning from an encoder, relations from the schema (RETRO).

Every text value of every text column gets a vector that knows the rows and keys it stands in. The database is read in
one read-only transaction.
"""

import sqlite3
from contextlib import closing

from longspan import Encoder
from longspan.relations import Database, retrofit

with closing(sqlite3.connect("films.db")) as connection:
    connection.executescript("""
        CREATE TABLE director (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE film (id INTEGER PRIMARY KEY, title TEXT, country TEXT, director INTEGER REFERENCES director);
        INSERT INTO director VALUES (1, 'Ridley Scott'), (2, 'Jacques Tati'), (3, 'Agnes Varda');
        INSERT INTO film VALUES (1, 'Alien', 'UK', 1), (2, 'Blade Runner', 'USA', 1), (3, 'Playtime', 'France', 2),
                                (4, 'Mon oncle', 'France', 2), (5, 'Vagabond', 'France', 3);
    """)

plan = Database("sqlite:///films.db").plan()
for relation in plan.relations:
    print(relation.name, relation.count)

result = retrofit(plan, Encoder("sentence-transformers/all-MiniLM-L6-v2"))
print(result.neighbors("film.title", "Playtime", k=3))
result.save("films.npz")
