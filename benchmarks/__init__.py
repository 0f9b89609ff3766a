"""Side-by-side measurements on one machine, and their recorded results."""
