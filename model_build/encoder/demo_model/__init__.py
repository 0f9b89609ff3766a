"""The demo model: MiniLM-L6 from a PyPI package plus a question-answering adapter trained here."""
