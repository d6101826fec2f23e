"""The executor for CPUs: tasks are the lanes of a vector register."""
