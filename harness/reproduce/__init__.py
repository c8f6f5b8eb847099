"""Published reconstructions, reproduced: a recipe's arms are run, scored and held against its figures."""
