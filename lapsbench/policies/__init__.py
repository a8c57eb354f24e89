"""Request schedulers, one small file each, and the predictors that feed them."""
