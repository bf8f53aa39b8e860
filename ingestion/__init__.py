"""Sources -> raw: what arrives (readers), where it goes (pipeline), what cannot go on (dead letters)."""
