"""The one main screen and its style sheet; everything else opens over it."""
