"""Who may ask the API for what: tokens and their roles, the names it answers to, and headers that browsers heed."""
