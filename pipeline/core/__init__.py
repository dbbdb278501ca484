"""What everything else builds on: errors, settings, manifests, console, watchdog, processes."""
