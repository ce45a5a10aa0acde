"""Documents with keys in an index's folder: what is there, what has changed, what is gone."""
