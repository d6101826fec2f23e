"""What searches are made of."""
