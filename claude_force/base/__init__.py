"""Floor 0: the words of the house. Imports nothing of ours."""
