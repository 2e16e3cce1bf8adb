"""Other protocols on the same runs: each a way in to admission and a way out of the event log."""
