"""Legacy: the earlier project's weights, audio and front end."""
