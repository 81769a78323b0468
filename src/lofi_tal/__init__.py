"""Low-fidelity video encoder optimisation for temporal action localisation."""
