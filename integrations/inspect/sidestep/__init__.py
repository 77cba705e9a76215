"""What other tools load by the name of this project: the extension of Inspect."""
