"""Who may do what: users, tokens, roles, sealed secrets and the audit log."""
