"""Who may do what, who must be asked, and how much may be spent."""
