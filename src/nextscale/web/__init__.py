"""The web server: an engine that serves many requests at once, an HTTP API, and the studio."""
