"""One file a method; each is found by being here."""
