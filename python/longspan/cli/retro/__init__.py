"""`longspan retro`: a relational database's text values, retrofitted with its relations."""
