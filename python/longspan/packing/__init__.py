"""Batches without padding: packed rows, what is selected of them, and sizes to fill up to."""
