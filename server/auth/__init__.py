"""Who is asking, and which rows they may see."""
