"""Where model files come from: hubs, folders; and how they are fetched."""
