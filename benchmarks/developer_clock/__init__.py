"""How long a developer waits: synthesis, and a whole deployment into the local account."""
