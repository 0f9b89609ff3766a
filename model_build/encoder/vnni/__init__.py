"""The encoder of the engine vnni in C++, how it is compiled, and the file of its weights."""
