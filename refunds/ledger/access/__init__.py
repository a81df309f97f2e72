"""Who may knock: people's credentials and sessions, machines' keys, and how often."""
