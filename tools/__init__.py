"""What an agent may do, under which permission, review and budget."""
