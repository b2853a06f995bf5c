"""What is done to values before they leave: randomised response and sealing. May hold no table."""
