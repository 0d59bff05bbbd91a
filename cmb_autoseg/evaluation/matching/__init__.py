"""The lesions of both sides of a case, and which of them belong together under each published rule."""
