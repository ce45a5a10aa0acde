"""The kinds of database that can be read, one file each; `source.py` says what they have in common."""
