"""A loaded model: from token ids to finished vectors."""
