"""Which level of a model fits this machine and how fast it will be, before a byte of it is fetched."""
