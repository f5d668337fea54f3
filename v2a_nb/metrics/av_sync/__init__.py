"""AV-Sync: whether sound and picture are synchronous (Action2Sound, section 5.2)."""
