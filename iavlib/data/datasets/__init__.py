"""One module per dataset, named after it; each describes and registers itself."""
