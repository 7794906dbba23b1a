"""The web server: an engine that draws for many at once, an HTTP API, and the studio."""
