"""The steps of a run, handed to workers: of this process, or on other machines."""
