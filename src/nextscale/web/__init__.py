"""The web server: an engine that processes many requests at the same time, an HTTP API, and the studio."""
