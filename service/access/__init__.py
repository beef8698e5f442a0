"""Access to the API: tokens and roles, allowed host names, and security headers for browsers."""
