"""The C++ encoder of the engine vnni, its compilation, and its weights file."""
