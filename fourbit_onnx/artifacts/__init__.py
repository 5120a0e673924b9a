"""The artifact folder: the contract between passes and runtime."""
