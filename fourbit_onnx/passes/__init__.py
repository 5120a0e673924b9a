"""Graph to graph: from an exported model to training artifacts."""
