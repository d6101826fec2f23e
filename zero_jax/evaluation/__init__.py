"""What saves work around the executors."""
