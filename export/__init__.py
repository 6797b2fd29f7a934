"""Complete model folders, cards and pushes; runs from a checkout, thin over pihc_zoo.zoo."""
