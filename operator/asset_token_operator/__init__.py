"""Keeps a valid Asset API token in a Secret for every `AssetToken`."""
