"""The way of a policy: scenario, queue, training Job, artifact, gate, shadow, active, superseded. Pure; no I/O."""
