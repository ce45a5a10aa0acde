"""ColBERT: its rules, the head over token vectors, texts to token vectors."""
