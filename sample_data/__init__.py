"""Small invented inputs, their seeded generator, and the local API server that serves some. Imports no stage."""
