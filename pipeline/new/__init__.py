"""`make new`: a profile for somebody's own models, data, reward and hardware, written and checked."""
