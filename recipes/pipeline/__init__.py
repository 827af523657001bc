"""Several stages as one run: a stage of recipes.r1, and the samples that one stage keeps for the next."""
