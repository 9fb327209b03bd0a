"""Ablation studies: many runs of one question, and whether differences are more than noise."""
