"""What every other part stands on: compiled loops, threads, files, checks of what comes from outside."""
