"""What a job does, stage by stage: inspect, plan, fit, fine_tune, evaluate, export, verify."""
