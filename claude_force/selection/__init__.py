"""Which agent fits a task: by words, by meaning where a model is at hand, and by what was done before."""
