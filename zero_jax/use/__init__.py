"""What a discovery is good for, and how fast programs are trained."""
