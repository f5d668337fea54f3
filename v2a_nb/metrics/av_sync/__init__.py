"""AV-Sync, the synchrony score of Action2Sound (section 5.1, supplement 7.4)."""
