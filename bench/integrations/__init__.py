"""What other people's frameworks cost on top."""
