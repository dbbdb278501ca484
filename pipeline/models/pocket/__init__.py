"""How the pocket base models are pretrained."""
