"""From a query and documents to scores: pair rows, prompts, heads, lists of documents in one sequence."""
