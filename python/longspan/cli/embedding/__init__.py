"""What the commands that embed files share: options, plans, blocks of vectors, rows."""
