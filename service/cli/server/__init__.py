"""The commands that run a service, or work on its database."""
