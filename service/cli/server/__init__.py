"""Commands that run a service or change its database."""
