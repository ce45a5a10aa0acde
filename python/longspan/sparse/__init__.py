"""Sparse encoders: from hidden states to weights of vocabulary entries, and queries that need no encoder."""
