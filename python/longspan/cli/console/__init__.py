"""What a person at a terminal meets: messages, progress, failures."""
