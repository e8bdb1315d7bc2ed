"""How `remote` talks to `medseg serve` (docs/service-api.md): where it is, one request, what is sent, and one order."""
