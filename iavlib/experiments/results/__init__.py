"""What many runs of a task say together, beside what was published."""
