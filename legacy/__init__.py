"""Legacy: the legacy project's weights, audio and front end."""
