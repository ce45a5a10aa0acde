"""The HTTP server under load: generator and server share this machine's cores."""
