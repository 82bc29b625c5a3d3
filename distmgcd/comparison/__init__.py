"""Methods side by side at equal cost: a plan, what runs it, and what is written of it."""
