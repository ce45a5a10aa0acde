"""Quality of embeddings on judged data, under one written protocol; see README.md beside this file."""
