"""Finished vectors: their precision, their length, their similarity, the form in which they are handed out."""
