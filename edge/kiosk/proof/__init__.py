"""Parts of ``edge prove-offline``: the sandbox with the service in it, and what is tried from inside."""
