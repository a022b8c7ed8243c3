"""The page: a small ASGI server over the singing chain, and the files of its front end."""
