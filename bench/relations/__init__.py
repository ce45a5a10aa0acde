"""RETRO at scale: a made database, what reading and solving it cost, and others at the same work."""
