"""What ``compile`` passes from stage to stage: the lowered graphs, the plan, the description."""
