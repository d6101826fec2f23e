"""Foundations of all other rooms: compiled loops, threads, files, and checks of external input."""
